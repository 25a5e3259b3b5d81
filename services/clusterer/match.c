#include "services/clusterer/match.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define FAR INT64_MAX

/* A cell costs minus its weight; a row may also stay alone, which costs 0. Prices keep cost - row - column at
 * 0 or above in every cell and at 0 in matched ones; free columns have price 0. */
struct matching {
    const struct match_cell *cells;
    uint64_t *first; /* owned, [rows + 1]: cells of each row */
    uint32_t rows, columns;
    int64_t *row_price;    /* owned, [rows] */
    int64_t *column_price; /* owned, [columns] */
    uint32_t *column_of;   /* [rows], the caller's */
    uint32_t *row_of;      /* owned, [columns] */

    /* the search for one path */
    int64_t *distance; /* owned, [columns]: FAR where not reached */
    uint32_t *via;     /* owned, [columns]: the row it was reached from */
    uint32_t *heap;    /* owned, [columns]: reached, the nearest first */
    uint32_t *place;   /* owned, [columns]: where it is in the heap */
    uint32_t *closed;  /* owned, [columns]: taken out of the heap, in that order */
    uint32_t in_heap, n_closed;
};

static void matching_close(struct matching *m)
{
    free(m->first);
    free(m->row_price);
    free(m->column_price);
    free(m->row_of);
    free(m->distance);
    free(m->via);
    free(m->heap);
    free(m->place);
    free(m->closed);
}

static int matching_init(struct matching *m, const struct match_cell *cells, uint64_t n, uint32_t rows,
                         uint32_t columns, uint32_t *out_column, struct err *e)
{
    *m = (struct matching){.cells = cells, .rows = rows, .columns = columns, .column_of = out_column};
    m->first = calloc((size_t)rows + 1, sizeof *m->first);
    m->row_price = calloc((size_t)rows + 1, sizeof *m->row_price);
    m->column_price = calloc((size_t)columns + 1, sizeof *m->column_price);
    m->row_of = malloc(((size_t)columns + 1) * sizeof *m->row_of);
    m->distance = malloc(((size_t)columns + 1) * sizeof *m->distance);
    m->via = malloc(((size_t)columns + 1) * sizeof *m->via);
    m->heap = malloc(((size_t)columns + 1) * sizeof *m->heap);
    m->place = malloc(((size_t)columns + 1) * sizeof *m->place);
    m->closed = malloc(((size_t)columns + 1) * sizeof *m->closed);
    if (!m->first || !m->row_price || !m->column_price || !m->row_of || !m->distance || !m->via || !m->heap ||
        !m->place || !m->closed)
        return err_sys(e, ENOMEM, "assignment of %u rows to %u columns", rows, columns);
    for (uint64_t i = 0; i < n; i++)
        m->first[cells[i].row + 1]++;
    for (uint32_t r = 0; r < rows; r++) {
        m->first[r + 1] += m->first[r];
        m->column_of[r] = MATCH_NONE;
    }
    for (uint32_t c = 0; c < columns; c++) {
        m->row_of[c] = MATCH_NONE;
        m->distance[c] = FAR;
    }
    return 0;
}

/* Free columns first among equals: they end the search. */
static bool nearer(const struct matching *m, uint32_t a, uint32_t b)
{
    if (m->distance[a] != m->distance[b])
        return m->distance[a] < m->distance[b];
    bool free_a = m->row_of[a] == MATCH_NONE, free_b = m->row_of[b] == MATCH_NONE;
    return free_a != free_b ? free_a : a < b;
}

static void heap_put(struct matching *m, uint32_t at, uint32_t column)
{
    m->heap[at] = column;
    m->place[column] = at;
}

/* Moves a column whose distance fell, or a new last one, up. */
static void heap_rise(struct matching *m, uint32_t at)
{
    uint32_t column = m->heap[at];
    while (at > 0 && nearer(m, column, m->heap[(at - 1) / 2])) {
        heap_put(m, at, m->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(m, at, column);
}

static uint32_t heap_pop(struct matching *m)
{
    uint32_t top = m->heap[0], last = m->heap[--m->in_heap], at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < m->in_heap && nearer(m, m->heap[child + 1], m->heap[child]))
            child++;
        if (child >= m->in_heap || !nearer(m, m->heap[child], last))
            break;
        heap_put(m, at, m->heap[child]);
        at = child;
    }
    if (m->in_heap)
        heap_put(m, at, last);
    return top;
}

/* Reaches columns from `row`, which lies `base` away. Closed ones are nearer than anything found from here.
 */
static void scan_row(struct matching *m, uint32_t row, int64_t base)
{
    for (uint64_t i = m->first[row]; i < m->first[row + 1]; i++) {
        uint32_t c = m->cells[i].column;
        int64_t d = base - (int64_t)m->cells[i].weight - m->row_price[row] - m->column_price[c];
        if (d >= m->distance[c])
            continue;
        if (m->distance[c] == FAR)
            heap_put(m, m->in_heap++, c);
        m->distance[c] = d;
        m->via[c] = row;
        heap_rise(m, m->place[c]);
    }
}

/* Prices after a search that ended `end` away; forgets its distances. */
static void search_finish(struct matching *m, uint32_t start, int64_t end)
{
    m->row_price[start] += end;
    for (uint32_t i = 0; i < m->n_closed; i++) {
        uint32_t c = m->closed[i];
        if (m->row_of[c] != MATCH_NONE)
            m->row_price[m->row_of[c]] += end - m->distance[c];
        m->column_price[c] -= end - m->distance[c];
        m->distance[c] = FAR;
    }
    while (m->in_heap)
        m->distance[m->heap[--m->in_heap]] = FAR;
    m->n_closed = 0;
}

/* Adds `start` to the matching by the cheapest path: to a free column, or to a row that gives its column up.
 */
static void match_row(struct matching *m, uint32_t start)
{
    uint32_t row = start, alone = start, column = MATCH_NONE;
    int64_t base = 0, end = FAR;
    for (uint64_t i = m->first[start]; i < m->first[start + 1]; i++) {
        int64_t cost = -(int64_t)m->cells[i].weight - m->column_price[m->cells[i].column];
        if (cost < m->row_price[start])
            m->row_price[start] = cost;
    }
    for (;;) {
        if (base - m->row_price[row] < end) {
            end = base - m->row_price[row];
            alone = row;
        }
        scan_row(m, row, base);
        if (m->in_heap == 0 || m->distance[m->heap[0]] >= end)
            break;
        column = heap_pop(m);
        m->closed[m->n_closed++] = column;
        base = m->distance[column];
        row = m->row_of[column];
        if (row == MATCH_NONE) {
            end = base;
            alone = MATCH_NONE;
            break;
        }
    }
    search_finish(m, start, end);
    if (alone != MATCH_NONE) {
        column = m->column_of[alone];
        m->column_of[alone] = MATCH_NONE;
    }
    for (row = MATCH_NONE; column != MATCH_NONE && row != start;) {
        uint32_t next;
        row = m->via[column];
        next = m->column_of[row];
        m->column_of[row] = column;
        m->row_of[column] = row;
        column = next;
    }
}

int match_maximum(const struct match_cell *cells, uint64_t n, uint32_t rows, uint32_t columns,
                  uint32_t *out_column, struct err *e)
{
    struct matching m;
    int rc = matching_init(&m, cells, n, rows, columns, out_column, e);
    for (uint32_t r = 0; rc == 0 && r < rows; r++)
        match_row(&m, r);
    for (uint32_t r = 0, c = 0; rc == 0 && r < rows; r++) {
        while (c < columns && m.row_of[c] != MATCH_NONE)
            c++;
        if (out_column[r] == MATCH_NONE && c < columns)
            out_column[r] = c++;
    }
    matching_close(&m);
    return rc;
}
