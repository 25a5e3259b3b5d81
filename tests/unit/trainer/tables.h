/* Label tables for the tests of targets and draw: two or three sources over a few hundred clips, written and
 * opened anew. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/label_table.h"
#include "services/trainer/targets.h"

static char tables_dir[64];

static int tables_setup(void **state)
{
    (void)state;
    strcpy(tables_dir, "/tmp/xdc-test-tables-XXXXXX");
    return mkdtemp(tables_dir) ? 0 : -1;
}

static int tables_teardown(void **state)
{
    (void)state;
    return rmdir(tables_dir);
}

/* The method of a configuration that says nothing else. */
static const struct targets_method *method_of(int64_t method)
{
    static struct targets_method made[METHOD_SELAVI + 1];
    struct conf *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->method = method;
    c->heads.between_rounds = HEADS_AUTO;
    c->selavi.heads = 3;
    c->selavi.groups = 2;
    targets_method(c, &made[method]);
    free(c);
    return &made[method];
}

/* The table's file stays until table_drop. */
static const char *table_path(void)
{
    static char path[96];
    snprintf(path, sizeof path, "%s/round-0000.xdcl", tables_dir);
    return path;
}

static struct label_table *table_make(uint32_t sources, const char *const *names, const uint32_t *k,
                                      const uint32_t *const *labels, uint64_t clips)
{
    struct label_info info = {.run = 1, .manifest = 2, .features = 3, .clips = clips, .sources = sources};
    struct label_table *table = NULL;
    struct err e = {0};
    uint64_t hash;
    for (uint32_t s = 0; s < sources; s++) {
        snprintf(info.source[s].name, sizeof info.source[s].name, "%s", names[s]);
        info.source[s].k = k[s];
    }
    if (label_table_write(table_path(), &info, labels, "{}", &hash, &e) < 0 ||
        label_table_open(table_path(), &table, &e) < 0)
        fail_msg("%s", e.msg);
    return table;
}

static void table_drop(void)
{
    assert_int_equal(unlink(table_path()), 0);
}
