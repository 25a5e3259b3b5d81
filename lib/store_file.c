#include "lib/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/fsutil.h"
#include "lib/store_pages.h"
#include "lib/store_seal.h"

_Static_assert(STORE_FILE_HEADER == STORE_PAGE_HEADER, "a value follows its page's header");

int store_file_open(struct store_file *f, const char *path, struct err *e)
{
    *f = (struct store_file){.fd = -1, .pages = STORE_META_PAGES};
    int rc = fs_path(f->path, e, "%s", path);
    if (rc < 0)
        return rc;
    f->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    return f->fd < 0 ? err_sys(e, errno, "create %s", path) : 0;
}

void store_file_close(struct store_file *f)
{
    for (unsigned i = 0; i < f->n_dbs; i++) {
        free(f->db[i].entries);
        free(f->db[i].small);
    }
    if (f->fd >= 0)
        close(f->fd);
    *f = (struct store_file){.fd = -1};
}

int store_file_db(struct store_file *f, const char *name, unsigned *out_db, struct err *e)
{
    if (f->n_dbs == STORE_FILE_DBS_MAX || strlen(name) >= STORE_FILE_NAME_MAX)
        return err_set(e, -EINVAL, "%s: no room for a database %s", f->path, name);
    memcpy(f->db[f->n_dbs].name, name, strlen(name) + 1);
    *out_db = f->n_dbs++;
    return 0;
}

static int reserve(void **array, uint64_t *capacity, uint64_t need, size_t item)
{
    uint64_t more = *capacity ? *capacity : 64;
    while (more < need)
        more *= 2;
    if (more == *capacity)
        return 0;
    void *grown = realloc(*array, more * item);
    if (!grown)
        return -ENOMEM;
    *array = grown;
    *capacity = more;
    return 0;
}

static int add_entry(struct store_file *f, unsigned db, struct store_file_entry entry, struct err *e)
{
    struct store_file_db *d = &f->db[db];
    void *entries = d->entries;
    if (reserve(&entries, &d->capacity, d->n + 1, sizeof *d->entries))
        return err_sys(e, ENOMEM, "%s: keys of %s", f->path, d->name);
    d->entries = entries;
    d->entries[d->n++] = entry;
    return 0;
}

static uint64_t pages_of(uint32_t size)
{
    return (STORE_PAGE_HEADER + (uint64_t)size + STORE_PAGE - 1) / STORE_PAGE;
}

/* All of it, through short writes. */
static int write_at(const struct store_file *f, const void *data, size_t size, uint64_t at, struct err *e)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(f->fd, (const char *)data + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EDQUOT || errno == EFBIG || errno == ENOSPC))
            return err_set(e, -ENOSPC, "write %s: no space left (%s)", f->path, strerror(errno));
        if (n < 0)
            return err_sys(e, errno, "write %s", f->path);
        done += (size_t)n;
    }
    return 0;
}

void *store_file_pages(uint32_t size)
{
    return aligned_alloc(STORE_PAGE, pages_of(size) * STORE_PAGE);
}

int store_file_append(struct store_file *f, unsigned db, uint64_t key, void *pages, uint32_t size,
                      struct err *e)
{
    size_t bytes = pages_of(size) * STORE_PAGE, end = STORE_PAGE_HEADER + (size_t)size;
    store_page_overflow(pages, f->pages, (uint32_t)pages_of(size));
    memset((char *)pages + end, 0, bytes - end);
    int rc = write_at(f, pages, bytes, f->pages * STORE_PAGE, e);
    return rc < 0 ? rc : store_file_adopt(f, db, key, size, e);
}

int store_file_adopt(struct store_file *f, unsigned db, uint64_t key, uint32_t size, struct err *e)
{
    int rc = add_entry(f, db, (struct store_file_entry){key, f->pages, size, 1}, e);
    if (rc < 0)
        return rc;
    f->db[db].pages += pages_of(size);
    f->pages += pages_of(size);
    return 0;
}

int store_file_read_back(const struct store_file *f, void *pages, uint32_t size, struct err *e)
{
    char want[STORE_PAGE_HEADER];
    int rc = fs_read_at(f->fd, pages, pages_of(size) * STORE_PAGE, f->pages * STORE_PAGE, f->path, e);
    store_page_overflow(want, f->pages, (uint32_t)pages_of(size));
    if (rc == 0 && memcmp(pages, want, sizeof want) != 0)
        rc = err_set(e, XDC_EFORMAT, "%s: page %llu does not begin a value of %u bytes", f->path,
                     (unsigned long long)f->pages, size);
    return rc;
}

int store_file_put(struct store_file *f, unsigned db, uint64_t key, const void *value, uint32_t size,
                   struct err *e)
{
    struct store_file_db *d = &f->db[db];
    void *small = d->small;
    if (size > STORE_SMALL_MAX)
        return err_set(e, -EINVAL, "%s: %u bytes are no small value", f->path, size);
    if (reserve(&small, &d->small_capacity, d->small_bytes + size, 1))
        return err_sys(e, ENOMEM, "%s: values of %s", f->path, d->name);
    d->small = small;
    int rc = add_entry(f, db, (struct store_file_entry){key, d->small_bytes, size, 0}, e);
    if (rc < 0)
        return rc;
    memcpy(d->small + d->small_bytes, value, size);
    d->small_bytes += size;
    return 0;
}

int store_file_cut(const struct store_file *f, struct err *e)
{
    return ftruncate(f->fd, (off_t)(f->pages * STORE_PAGE)) < 0 ? err_sys(e, errno, "cut %s", f->path) : 0;
}

void store_file_hurry(const struct store_file *f, uint64_t from_page)
{
    sync_file_range(f->fd, (off_t)(from_page * STORE_PAGE), (off_t)((f->pages - from_page) * STORE_PAGE),
                    SYNC_FILE_RANGE_WRITE);
}

int store_file_sync(const struct store_file *f, struct err *e)
{
    return fdatasync(f->fd) < 0 ? err_sys(e, errno, "sync %s", f->path) : 0;
}

/* What writes the trees. */
struct builder {
    struct store_file *f;
    uint64_t next; /* page; f->pages stays until all is written, so that it can be done again */
    struct err *e;
};

static int write_page(void *arg, uint64_t number, const void *page)
{
    struct builder *b = arg;
    return write_at(b->f, page, STORE_PAGE, number * STORE_PAGE, b->e);
}

static void entry_node(const void *arg, uint64_t i, struct store_node *out)
{
    const struct store_file_db *d = arg;
    const struct store_file_entry *entry = &d->entries[i];
    *out = (struct store_node){.key = &entry->key, .key_bytes = sizeof entry->key, .size = entry->size};
    if (entry->paged)
        out->page = &entry->at;
    else
        out->value = d->small + entry->at;
}

struct named {
    const struct store_file_db *db[STORE_FILE_DBS_MAX];
    struct store_tree tree[STORE_FILE_DBS_MAX];
};

static void named_node(const void *arg, uint64_t i, struct store_node *out)
{
    const struct named *n = arg;
    *out = (struct store_node){.key = n->db[i]->name,
                               .key_bytes = (uint16_t)strlen(n->db[i]->name),
                               .value = &n->tree[i],
                               .size = sizeof n->tree[i],
                               .database = true};
}

static int by_name(const void *a, const void *b)
{
    const struct store_file_db *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int write_trees(struct builder *b, struct store_tree *out_main)
{
    struct store_file *f = b->f;
    struct named named;
    for (unsigned i = 0; i < f->n_dbs; i++)
        named.db[i] = &f->db[i];
    qsort(named.db, f->n_dbs, sizeof named.db[0], by_name); /* LMDB's order of names */
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < f->n_dbs; i++) {
        rc = store_tree_write(entry_node, named.db[i], named.db[i]->n, &b->next, write_page, b,
                              &named.tree[i], b->e);
        named.tree[i].overflow_pages = named.db[i]->pages;
        named.tree[i].flags = STORE_INTEGER_KEYS;
    }
    return rc < 0 ? rc
                  : store_tree_write(named_node, &named, f->n_dbs, &b->next, write_page, b, out_main, b->e);
}

int store_file_seal(struct store_file *f, struct err *e)
{
    struct builder b = {f, f->pages, e};
    struct store_tree main_tree;
    int rc = write_trees(&b, &main_tree);
    for (uint64_t i = 0; rc == 0 && i < STORE_META_PAGES; i++) {
        char page[STORE_PAGE];
        store_page_meta(page, i, &main_tree, b.next);
        rc = write_at(f, page, sizeof page, i * STORE_PAGE, e);
    }
    if (rc == 0)
        rc = store_seal_write(f->path, f->fd, b.next, STORE_PAGE, e);
    return rc < 0 ? rc : store_file_sync(f, e);
}
