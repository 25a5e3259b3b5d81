/* match against all permutations, and stable_ids, which is made of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "lib/label_table.h"
#include "lib/rng.h"
#include "services/clusterer/match.h"
#include "services/clusterer/stable_ids.h"

#define SIDE 7

/* The largest total of any one-to-one choice from row `row` on. */
static uint64_t best_total(uint64_t table[SIDE][SIDE], uint32_t rows, uint32_t columns, uint32_t row,
                           unsigned used)
{
    if (row == rows)
        return 0;
    uint64_t best = best_total(table, rows, columns, row + 1, used); /* the row stays alone */
    for (uint32_t c = 0; c < columns; c++) {
        if (used >> c & 1)
            continue;
        uint64_t total = table[row][c] + best_total(table, rows, columns, row + 1, used | 1u << c);
        best = total > best ? total : best;
    }
    return best;
}

static uint64_t list_cells(uint64_t table[SIDE][SIDE], uint32_t rows, uint32_t columns,
                           struct match_cell *cells)
{
    uint64_t n = 0;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < columns; c++)
            if (table[r][c])
                cells[n++] = (struct match_cell){r, c, table[r][c]};
    return n;
}

/* Random tables of every shape up to 7 x 7, dense and thin, of few values (many ties) and of large ones: the
 * total is the best of all permutations', each column is given once, and as many rows have one as can. */
static void all_permutations(void **state)
{
    (void)state;
    static const uint64_t values[] = {2, 5, 1000, (uint64_t)1 << 40};
    struct rng r;
    rng_init(&r, 1);
    for (unsigned i = 0; i < 4000; i++) {
        uint64_t table[SIDE][SIDE] = {{0}}, total = 0;
        struct match_cell cells[SIDE * SIDE];
        uint32_t rows = 1 + (uint32_t)rng_below(&r, SIDE), columns = 1 + (uint32_t)rng_below(&r, SIDE);
        uint32_t column[SIDE], placed = 0;
        uint64_t below = values[i % 4], thin = rng_below(&r, 4);
        unsigned used = 0;
        for (uint32_t a = 0; a < rows; a++)
            for (uint32_t b = 0; b < columns; b++)
                table[a][b] = rng_below(&r, 4) < thin ? 0 : rng_below(&r, below);
        uint64_t n = list_cells(table, rows, columns, cells);
        assert_int_equal(match_maximum(cells, n, rows, columns, column, NULL), 0);
        for (uint32_t a = 0; a < rows; a++) {
            if (column[a] == MATCH_NONE)
                continue;
            assert_true(column[a] < columns);
            assert_false(used >> column[a] & 1);
            used |= 1u << column[a];
            total += table[a][column[a]];
            placed++;
        }
        assert_int_equal(placed, rows < columns ? rows : columns);
        assert_true(total == best_total(table, rows, columns, 0, 0));
    }
}

/* Nothing to choose by: rows take columns in order. */
static void ties_take_the_lowest(void **state)
{
    (void)state;
    uint32_t column[5];
    assert_int_equal(match_maximum(NULL, 0, 5, 3, column, NULL), 0);
    assert_memory_equal(column, ((uint32_t[]){0, 1, 2, MATCH_NONE, MATCH_NONE}), sizeof column);
    struct match_cell equal[SIDE * SIDE];
    uint64_t table[SIDE][SIDE];
    for (uint32_t a = 0; a < SIDE; a++)
        for (uint32_t b = 0; b < SIDE; b++)
            table[a][b] = 3;
    assert_int_equal(match_maximum(equal, list_cells(table, 5, 5, equal), 5, 5, column, NULL), 0);
    assert_memory_equal(column, ((uint32_t[]){0, 1, 2, 3, 4}), sizeof column);
}

/* A permutation of the ids is undone, whatever clips are missing from either round. */
static void ids_are_undone(void **state)
{
    (void)state;
    enum { N = 5000, K = 300 };
    static uint32_t before[N], now[N], renamed[N];
    uint32_t order[K], id[K];
    struct rng r;
    rng_init(&r, 2);
    for (uint32_t c = 0; c < K; c++)
        order[c] = c;
    for (uint32_t c = K; c > 1; c--) {
        uint32_t other = (uint32_t)rng_below(&r, c), t = order[c - 1];
        order[c - 1] = order[other];
        order[other] = t;
    }
    for (uint32_t i = 0; i < N; i++) {
        uint32_t label = i < 3 * K ? i % K : (uint32_t)rng_below(&r, K); /* each is there */
        now[i] = i >= 3 * K && i % 7 == 0 ? LABEL_NONE : order[label];
        before[i] = i >= 3 * K && i % 11 == 0 ? LABEL_NONE : label;
        renamed[i] = now[i] == LABEL_NONE ? LABEL_NONE : label;
    }
    assert_int_equal(stable_ids_find(now, before, N, K, id, NULL), 0);
    for (uint32_t c = 0; c < K; c++)
        assert_int_equal(id[order[c]], c);
    stable_ids_rename(now, N, id);
    assert_memory_equal(now, renamed, sizeof now);
}

/* Centroids go where their labels go; clusters that share no clip with the round before take what is left, in
 * order. */
static void centroids_follow(void **state)
{
    (void)state;
    const uint32_t now[] = {0, 0, 1, 1, 1, 3}, before[] = {2, 2, 0, 0, 2, LABEL_NONE};
    float centroids[] = {0, 0.5f, 1, 1.5f, 2, 2.5f, 3, 3.5f};
    uint32_t id[4];
    assert_int_equal(stable_ids_find(now, before, 6, 4, id, NULL), 0);
    assert_memory_equal(id, ((uint32_t[]){2, 0, 1, 3}), sizeof id);
    assert_int_equal(stable_ids_move(centroids, 4, 2, id, NULL), 0);
    assert_memory_equal(centroids, ((float[]){1, 1.5f, 2, 2.5f, 0, 0.5f, 3, 3.5f}), sizeof centroids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_permutations),
        cmocka_unit_test(ties_take_the_lowest),
        cmocka_unit_test(ids_are_undone),
        cmocka_unit_test(centroids_follow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
