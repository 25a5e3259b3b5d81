/* JSON lines: an object a line, with path and perhaps label, split, start and end. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/index_forms.h"

static enum index_looks jsonl_look(struct form_reader *r)
{
    const char *line = form_line(r);
    return line && *line == '{' ? INDEX_LOOKS_SURE : INDEX_LOOKS_NO;
}

/* The value as text, which takes the place of the line that it stood in: it is never longer. */
static char *keep(char **to, const char *value)
{
    char *copy = *to;
    size_t n = strlen(value) + 1;
    memcpy(copy, value, n);
    *to += n;
    return copy;
}

static int take(struct index_reading *g, json_t *o, char *line, struct err *e)
{
    struct index_row row = {.start_s = -1, .split = INDEX_SPLIT_UNSAID};
    const char *path = json_string_value(json_object_get(o, "path"));
    json_t *label = json_object_get(o, "label"), *split = json_object_get(o, "split");
    char number[32] = "";
    if (!path || !*path)
        return form_fault(&g->reader, e, "no path");
    if (label && !json_is_string(label) && !json_is_integer(label) && !json_is_null(label))
        return form_fault(&g->reader, e, "label is neither text nor a whole number");
    if (split && !json_is_null(split)) {
        const char *word = json_string_value(split);
        int found = word ? form_split(word) : -1;
        if (found < 0)
            return form_fault(&g->reader, e, "split is none of train, val, test");
        row.split = (int8_t)found;
    }
    if (json_is_integer(label))
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(label));
    const char *name = json_is_integer(label) ? number : json_string_value(label);
    g->rows->timed += json_object_get(o, "start") || json_object_get(o, "end");
    row.key = keep(&line, path);
    row.label = name && *name ? keep(&line, name) : NULL;
    return index_rows_add(g, row, e);
}

static int jsonl_read(struct index_reading *g, struct err *e)
{
    char *line;
    int rc = 0;
    while (rc == 0 && (line = form_line(&g->reader))) {
        json_error_t fault;
        json_t *o = json_loads(line, 0, &fault);
        if (json_is_object(o))
            rc = take(g, o, line, e);
        else
            rc = form_fault(&g->reader, e, "no JSON object%s%s", o ? "" : ": ", o ? "" : fault.text);
        json_decref(o);
    }
    return rc;
}

const struct index_form form_jsonl = {.name = "jsonl",
                                      .what = "JSON lines with path, label, split",
                                      .split_by_name = true,
                                      .looks = jsonl_look,
                                      .read = jsonl_read};
