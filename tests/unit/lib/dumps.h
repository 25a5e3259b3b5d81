/* A directory with a dump of two encoders for the tests of feature_store: where it is, what its rows hold,
 * and which are there. Included behind cmocka.h. */
#pragma once
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/feature_store.h"
#include "lib/fsutil.h"

static char root[64], dir[128];       /* of the test; of the dump */
static char tmp[160], data_path[160]; /* where it is written; its file when it is sealed */

static inline int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/xdc-test-dumps-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    snprintf(dir, sizeof dir, "%s/rank-0", root);
    snprintf(tmp, sizeof tmp, "%s.tmp", dir);
    snprintf(data_path, sizeof data_path, "%s/data.mdb", dir);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    return fs_remove_tree(root, NULL);
}

static inline struct feature_info example_info(uint64_t rows, uint32_t dim, enum feature_dtype dtype)
{
    return (struct feature_info){
        .manifest = 0xaaaa,
        .run = 0xbbbb,
        .weights = 0xcccc,
        .rows = rows,
        .total = rows + 10,
        .round = 3,
        .rank = 1,
        .ranks = 2,
        .dtype = dtype,
        .encoders = 2,
        .encoder = {{"video", dim, 0}, {"audio", dim / 2 + 1, 0}},
    };
}

/* Value d of a row: distinct, of both signs, with more bits than f16 has. */
static inline float example(uint32_t encoder, uint64_t row, uint32_t d)
{
    return (float)(sin((double)row * 0.7 + d * 1.3 + encoder) * (1.0 + (double)(d % 11)));
}

static inline int all_rows(uint64_t row)
{
    (void)row;
    return 1;
}

/* Lonely rows at block edges, and a hole of whole blocks from 1024 to 4095. */
static inline int some_rows(uint64_t row)
{
    if (row >= 1024 && row < 4096)
        return 0;
    return row % 3 != 1;
}

static inline int no_rows(uint64_t row)
{
    (void)row;
    return 0;
}

/* Writes and seals a dump of the rows that `has` names, both encoders in turn. */
static inline uint64_t write_dump(const struct feature_info *info, int (*has)(uint64_t))
{
    struct feature_store *s;
    struct err e;
    float values[600];
    uint64_t hash;
    if (feature_store_create(dir, info, &s, &e) < 0)
        fail_msg("%s", e.msg);
    for (uint64_t row = info->first; row < info->first + info->rows; row++)
        for (uint32_t n = 0; n < info->encoders && has(row); n++) {
            for (uint32_t d = 0; d < info->encoder[n].dim; d++)
                values[d] = example(n, row, d);
            if (feature_store_put(s, n, row, values, &e) < 0)
                fail_msg("%s", e.msg);
        }
    if (feature_store_seal(s, &hash, &e) < 0)
        fail_msg("%s", e.msg);
    feature_store_close(s);
    return hash;
}

static inline uint64_t rewrite_dump(const struct feature_info *info, int (*has)(uint64_t))
{
    assert_int_equal(fs_remove_tree(dir, NULL), 0);
    return write_dump(info, has);
}
