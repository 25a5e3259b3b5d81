#include "cli/yaml_tree.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <yaml.h>

#define DEPTH_MAX 16

struct reading {
    yaml_parser_t parser;
    const char *name;
    struct err *e;
};

static int fault(struct reading *r, yaml_mark_t at, const char *what, const char *detail)
{
    return err_set(r->e, XDC_ECONF, "%s:%zu:%zu: %s%s", r->name, at.line + 1, at.column + 1, what, detail);
}

static int next(struct reading *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event))
        return 0;
    return fault(r, r->parser.problem_mark,
                 "not YAML: ", r->parser.problem ? r->parser.problem : "no memory");
}

static int take_node(struct reading *r, yaml_event_t *event, int depth, json_t **out);

static int take_scalar(struct reading *r, const yaml_event_t *event, json_t **out)
{
    const char *text = (const char *)event->data.scalar.value;
    *out = json_stringn(text, event->data.scalar.length);
    return *out && !memchr(text, 0, event->data.scalar.length)
               ? 0
               : fault(r, event->start_mark, "text is not UTF-8, or holds a zero", "");
}

static int take_list(struct reading *r, int depth, json_t *list)
{
    yaml_event_t event;
    int rc;
    while ((rc = next(r, &event)) == 0 && event.type != YAML_SEQUENCE_END_EVENT) {
        json_t *item = NULL;
        rc = take_node(r, &event, depth, &item);
        yaml_event_delete(&event);
        if (rc < 0) {
            json_decref(item);
            return rc;
        }
        json_array_append_new(list, item);
    }
    if (rc == 0)
        yaml_event_delete(&event);
    return rc;
}

/* One key with its value; 1 at the map's end. */
static int take_pair(struct reading *r, int depth, json_t *map)
{
    yaml_event_t key, event;
    json_t *value = NULL;
    int rc = next(r, &key);
    if (rc < 0)
        return rc;
    const char *name = key.type == YAML_SCALAR_EVENT ? (const char *)key.data.scalar.value : NULL;
    if (key.type == YAML_MAPPING_END_EVENT)
        rc = 1;
    else if (!name)
        rc = fault(r, key.start_mark, "a key must be a word", "");
    else if (json_object_get(map, name))
        rc = fault(r, key.start_mark, "given twice: ", name);
    if (rc == 0 && (rc = next(r, &event)) == 0) {
        rc = take_node(r, &event, depth, &value);
        yaml_event_delete(&event);
        if (rc == 0 && json_object_set(map, name, value) < 0)
            rc = fault(r, key.start_mark, "a key is not UTF-8", "");
        json_decref(value);
    }
    yaml_event_delete(&key);
    return rc;
}

static int take_node(struct reading *r, yaml_event_t *event, int depth, json_t **out)
{
    int rc = 0;
    if (depth > DEPTH_MAX)
        return fault(r, event->start_mark, "nested too deeply", "");
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return take_scalar(r, event, out);
    case YAML_SEQUENCE_START_EVENT:
        *out = json_array();
        return take_list(r, depth + 1, *out);
    case YAML_MAPPING_START_EVENT:
        *out = json_object();
        while ((rc = take_pair(r, depth + 1, *out)) == 0)
            ;
        return rc > 0 ? 0 : rc;
    case YAML_ALIAS_EVENT:
        return fault(r, event->start_mark, "aliases are not read", "");
    default:
        return fault(r, event->start_mark, "a value is missing", "");
    }
}

/* Events up to the first that is not of the stream's or document's beginning. */
static int take_document(struct reading *r, json_t **out)
{
    yaml_event_t event;
    int rc;
    do {
        if ((rc = next(r, &event)) < 0)
            return rc;
        if (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_START_EVENT)
            break;
        yaml_event_delete(&event);
    } while (true);
    if (event.type == YAML_STREAM_END_EVENT)
        *out = json_object();
    else
        rc = take_node(r, &event, 0, out);
    bool ended = event.type == YAML_STREAM_END_EVENT;
    yaml_event_delete(&event);
    if (rc < 0 || ended || (rc = next(r, &event)) < 0) /* the document's end */
        return rc;
    yaml_event_delete(&event);
    if ((rc = next(r, &event)) < 0)
        return rc;
    if (event.type != YAML_STREAM_END_EVENT)
        rc = fault(r, event.start_mark, "a second document: one file holds one", "");
    yaml_event_delete(&event);
    return rc;
}

int yaml_tree(const char *text, size_t size, const char *name, json_t **out, struct err *e)
{
    struct reading r = {.name = name, .e = e};
    *out = NULL;
    if (!yaml_parser_initialize(&r.parser))
        return err_sys(e, ENOMEM, "%s", name);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    int rc = take_document(&r, out);
    yaml_parser_delete(&r.parser);
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}
