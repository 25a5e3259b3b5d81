#include "services/trainer/unstable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/fsutil.h"

#define FILE_MAX ((size_t)1 << 30)

static int append_place(struct unstable_list *u, const struct unstable_place *place, struct err *e)
{
    struct unstable_place *grown = realloc(u->places, (u->n + 1) * sizeof *grown);
    if (!grown)
        return err_sys(e, ENOMEM, "%s", u->path);
    u->places = grown;
    u->places[u->n++] = *place;
    return 0;
}

static int parse_line(struct unstable_list *u, const char *line, size_t size, struct err *e)
{
    json_int_t round, epoch, batch;
    json_t *j = json_loadb(line, size, 0, NULL);
    int rc = json_unpack(j, "{s:I, s:I, s:I}", "round", &round, "epoch", &epoch, "batch", &batch);
    json_decref(j);
    if (rc < 0 || round < 0 || round > UINT32_MAX || epoch < 0 || epoch > UINT32_MAX || batch < 0)
        return err_set(e, XDC_EFORMAT, "%s: line %zu names no batch", u->path, u->n + 1);
    return append_place(u, &(struct unstable_place){(uint32_t)round, (uint32_t)epoch, (uint64_t)batch}, e);
}

int unstable_open(struct unstable_list *u, const char *run_dir, struct err *e)
{
    size_t size;
    *u = (struct unstable_list){0};
    int rc = fs_path(u->path, e, "%s/unstable.jsonl", run_dir);
    if (rc == 0)
        rc = fs_read(u->path, FILE_MAX, &u->text, &size, e);
    if (rc == -ENOENT)
        return 0;
    for (const char *line = u->text; rc == 0 && *line;) {
        size_t n = strcspn(line, "\n");
        rc = parse_line(u, line, n, e);
        line += n + (line[n] == '\n');
    }
    return rc;
}

/* The file with one more line, malloc'd; NULL without memory. */
static char *longer_text(const struct unstable_list *u, const struct unstable_place *p, const json_t *fields)
{
    char *line = NULL, *text = NULL;
    json_t *j = json_pack("{s:I, s:I, s:I}", "round", (json_int_t)p->round, "epoch", (json_int_t)p->epoch,
                          "batch", (json_int_t)p->batch);
    if (j && json_object_update(j, (json_t *)fields) == 0)
        line = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    size_t before = u->text ? strlen(u->text) : 0, added = line ? strlen(line) : 0;
    if (line && (text = malloc(before + added + 2))) {
        if (before)
            memcpy(text, u->text, before);
        memcpy(text + before, line, added);
        strcpy(text + before + added, "\n");
    }
    free(line);
    return text;
}

int unstable_add(struct unstable_list *u, const struct unstable_place *place, const json_t *fields,
                 bool writes, struct err *e)
{
    char *text = longer_text(u, place, fields);
    if (!text)
        return err_sys(e, ENOMEM, "%s", u->path);
    int rc = append_place(u, place, e);
    if (rc == 0 && writes) {
        rc = fs_write_atomic(u->path, text, strlen(text), e);
        u->n -= rc < 0;
    }
    if (rc < 0) {
        free(text);
        return rc;
    }
    free(u->text);
    u->text = text;
    return 0;
}

bool unstable_has(const struct unstable_list *u, const struct unstable_place *place)
{
    for (size_t i = 0; i < u->n; i++)
        if (u->places[i].round == place->round && u->places[i].epoch == place->epoch &&
            u->places[i].batch == place->batch)
            return true;
    return false;
}

void unstable_close(struct unstable_list *u)
{
    free(u->places);
    free(u->text);
    *u = (struct unstable_list){0};
}
