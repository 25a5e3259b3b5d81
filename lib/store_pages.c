#include "lib/store_pages.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAGE_BRANCH = 0x01,
    PAGE_LEAF = 0x02,
    PAGE_OVERFLOW = 0x04,
    PAGE_META = 0x08,
    NODE_PAGED = 0x01,
    NODE_DATABASE = 0x02,
    NODE_HEADER = 8,
    KEY_MAX = 40,
    /* so that no key is too long, and no branch, dealt evenly, has a single child, which LMDB would not take
     */
    BRANCH_CHILDREN = (STORE_PAGE - STORE_PAGE_HEADER) / (NODE_HEADER + KEY_MAX + 2),
};
#define NO_PAGE UINT64_MAX

struct page_header {
    uint64_t number;
    uint16_t pad, flags;
    union {
        struct {
            uint16_t lower, upper; /* the free room lies between */
        };
        uint32_t pages;
    };
};
_Static_assert(sizeof(struct page_header) == STORE_PAGE_HEADER, "no padding");

struct meta {
    uint32_t magic, version;
    uint64_t address, map_bytes;
    struct store_tree free_pages, main_tree;
    uint64_t last_page, transaction;
};

struct child {
    uint64_t page;
    uint16_t key_bytes;
    char key[KEY_MAX];
};

struct level {
    struct child *children; /* owned */
    uint64_t n, capacity;
};

struct tree_writer {
    uint64_t *next;
    store_page_write write;
    void *arg;
    struct err *e;
    union {
        struct page_header header;
        char bytes[STORE_PAGE];
    } page;
};

void store_page_overflow(char out[STORE_PAGE_HEADER], uint64_t page, uint32_t pages)
{
    struct page_header h = {.number = page, .flags = PAGE_OVERFLOW, .pages = pages};
    memcpy(out, &h, sizeof h);
}

void store_page_meta(char out[STORE_PAGE], uint64_t page, const struct store_tree *main_tree, uint64_t pages)
{
    struct page_header h = {.number = page, .flags = PAGE_META};
    struct meta m = {.magic = 0xbeefc0de,
                     .version = 1,
                     .map_bytes = pages * STORE_PAGE,
                     .free_pages = {.pad = STORE_PAGE, .flags = STORE_INTEGER_KEYS, .root = NO_PAGE},
                     .main_tree = *main_tree,
                     .last_page = pages - 1,
                     .transaction = page}; /* the higher one counts: they are the same */
    memset(out, 0, STORE_PAGE);
    memcpy(out, &h, sizeof h);
    memcpy(out + sizeof h, &m, sizeof m);
}

static void begin_page(struct tree_writer *w, uint16_t flags)
{
    memset(&w->page, 0, sizeof w->page);
    w->page.header = (struct page_header){
        .number = *w->next, .flags = flags, .lower = STORE_PAGE_HEADER, .upper = STORE_PAGE};
}

static int end_page(struct tree_writer *w)
{
    int rc = w->write(w->arg, *w->next, &w->page);
    if (rc == 0)
        ++*w->next;
    return rc;
}

/* Room for a node of so many bytes, NULL when the page is full: nodes fill it from its end, their places from
 * its start. */
static char *add_node(struct tree_writer *w, size_t bytes)
{
    struct page_header *h = &w->page.header;
    bytes += bytes % 2;
    if ((size_t)(h->upper - h->lower) < bytes + sizeof(uint16_t))
        return NULL;
    h->upper = (uint16_t)(h->upper - bytes);
    memcpy(w->page.bytes + h->lower, &h->upper, sizeof h->upper);
    h->lower = (uint16_t)(h->lower + sizeof h->upper);
    return w->page.bytes + h->upper;
}

static void put_node(char *to, uint64_t number, uint16_t key_bytes, const void *key)
{
    memcpy(to, &number, 6);
    memcpy(to + 6, &key_bytes, sizeof key_bytes);
    memcpy(to + NODE_HEADER, key, key_bytes);
}

/* The header's 48 bits are the value's size and its flags. */
static bool add_leaf(struct tree_writer *w, const struct store_node *n)
{
    size_t value = n->value ? n->size : sizeof *n->page;
    char *to = add_node(w, NODE_HEADER + (size_t)n->key_bytes + value);
    uint64_t flags = n->value ? (n->database ? NODE_DATABASE : 0) : NODE_PAGED;
    if (!to)
        return false;
    put_node(to, n->size | flags << 32, n->key_bytes, n->key);
    memcpy(to + NODE_HEADER + n->key_bytes, n->value ? n->value : n->page, value);
    return true;
}

static int add_child(struct level *l, uint64_t page, const void *key, uint16_t key_bytes, struct err *e)
{
    if (l->n == l->capacity) {
        uint64_t more = l->capacity ? 2 * l->capacity : 64;
        struct child *grown = realloc(l->children, more * sizeof *grown);
        if (!grown)
            return err_sys(e, ENOMEM, "pages of a tree");
        l->children = grown;
        l->capacity = more;
    }
    struct child *c = &l->children[l->n++];
    *c = (struct child){.page = page, .key_bytes = key_bytes};
    memcpy(c->key, key, key_bytes);
    return 0;
}

static int write_leaves(struct tree_writer *w, store_node_at node, const void *nodes, uint64_t n,
                        struct level *out)
{
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < n;) {
        struct store_node at;
        node(nodes, i, &at);
        if (at.key_bytes > KEY_MAX || (at.value && at.size > STORE_SMALL_MAX))
            return err_set(w->e, -EINVAL, "a key of %u bytes or a value of %u is too large", at.key_bytes,
                           at.size);
        begin_page(w, PAGE_LEAF);
        rc = add_child(out, *w->next, at.key, at.key_bytes, w->e);
        while (i < n && add_leaf(w, &at))
            if (++i < n)
                node(nodes, i, &at);
        if (rc == 0)
            rc = end_page(w);
    }
    return rc;
}

/* A level of branches above `below`: the first key of each is left out, as nothing lies before it. */
static int write_branches(struct tree_writer *w, const struct level *below, struct level *out)
{
    uint64_t pages = (below->n + BRANCH_CHILDREN - 1) / BRANCH_CHILDREN;
    int rc = 0;
    for (uint64_t p = 0; rc == 0 && p < pages; p++) {
        uint64_t first = below->n * p / pages, end = below->n * (p + 1) / pages;
        const struct child *c = &below->children[first];
        begin_page(w, PAGE_BRANCH);
        rc = add_child(out, *w->next, c->key, c->key_bytes, w->e);
        for (uint64_t i = first; i < end; i++, c++) {
            uint16_t key_bytes = i == first ? 0 : c->key_bytes;
            put_node(add_node(w, NODE_HEADER + (size_t)key_bytes), c->page, key_bytes, c->key);
        }
        if (rc == 0)
            rc = end_page(w);
    }
    return rc;
}

int store_tree_write(store_node_at node, const void *nodes, uint64_t n, uint64_t *next_page,
                     store_page_write write, void *arg, struct store_tree *out, struct err *e)
{
    struct tree_writer w = {.next = next_page, .write = write, .arg = arg, .e = e};
    struct level level = {0};
    *out = (struct store_tree){.entries = n, .root = NO_PAGE};
    int rc = write_leaves(&w, node, nodes, n, &level);
    out->leaf_pages = level.n;
    while (rc == 0 && level.n > 0) {
        struct level above = {0};
        out->depth++;
        out->root = level.children[0].page;
        if (level.n == 1)
            break;
        rc = write_branches(&w, &level, &above);
        out->branch_pages += above.n;
        free(level.children);
        level = above;
    }
    free(level.children);
    return rc;
}
