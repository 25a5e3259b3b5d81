/* store_pages: the pages of an LMDB 0.9 file (its data version 1, which has not changed since 2012),
 * little-endian as the host: meta pages, the first page of a large value, and trees. Used by store_file
 * alone. Pure but for the writes that its caller makes; owns nothing. LMDB's own code is the description of
 * the format. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

#define STORE_PAGE 4096
#define STORE_PAGE_HEADER 16
#define STORE_META_PAGES 2
#define STORE_SMALL_MAX 2000 /* two nodes fit in a page */
#define STORE_INTEGER_KEYS 0x08

/* LMDB's MDB_db. */
struct store_tree {
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};
_Static_assert(sizeof(struct store_tree) == 48, "no padding");

/* A key with its value, or with the page where it begins. */
struct store_node {
    const void *key;
    uint16_t key_bytes;
    bool database; /* the value is a tree's record */
    uint32_t size;
    const void *value;    /* NULL: in pages of its own */
    const uint64_t *page; /* those */
};

/* Gives node i. */
typedef void (*store_node_at)(const void *arg, uint64_t i, struct store_node *out);
/* Writes a page at its number's place; 0 or negative with the sentence set. */
typedef int (*store_page_write)(void *arg, uint64_t number, const void *page);

/* The header of a value of so many pages. */
void store_page_overflow(char out[STORE_PAGE_HEADER], uint64_t page, uint32_t pages);
/* Meta page 0 or 1 of a file of `pages` pages. */
void store_page_meta(char out[STORE_PAGE], uint64_t page, const struct store_tree *main_tree, uint64_t pages);
/* Writes the leaves and branches of n nodes, whose keys ascend, from page *next_page on, which is raised
 * behind them. What `write` returns, -ENOMEM. */
int store_tree_write(store_node_at node, const void *nodes, uint64_t n, uint64_t *next_page,
                     store_page_write write, void *arg, struct store_tree *out, struct err *e) WARN_UNUSED;
