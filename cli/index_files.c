#include "cli/index_files.h"

#include <errno.h>
#include <fts.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "lib/fsutil.h"

#define TEXT_BYTES ((size_t)1 << 20)

/* Paths, one behind the other. */
struct index_text {
    struct index_text *next;
    size_t used;
    char bytes[TEXT_BYTES];
};

bool index_files_is_media(const char *name)
{
    static const char *const known[] = {"mp4", "mov", "m4v", "mkv", "webm", "avi", "ts", "mts", "m2ts", "flv",
                                        "ogv", "mpg", "mpeg", "vob", "wmv", "asf", "3gp", "mxf", "dv", "gif",
                                        "wav", "mp3", "flac", "m4a", "aac", "ogg", "opus",
                                        /* stills */
                                        "jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof known / sizeof known[0]; i++)
        if (!strcasecmp(dot + 1, known[i]))
            return true;
    return false;
}

static bool ends_in(const char *name, const char *ending)
{
    size_t n = strlen(name), k = strlen(ending);
    return n > k && !strcasecmp(name + n - k, ending);
}

bool index_files_is_archive(const char *name)
{
    return ends_in(name, ".tar");
}

bool index_files_is_compressed(const char *name)
{
    static const char *const endings[] = {".tar.gz", ".tgz", ".tar.bz2", ".tbz2",
                                          ".tar.xz", ".txz", ".tar.zst"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (ends_in(name, endings[i]))
            return true;
    return false;
}

void index_named_add(struct index_named *n, const char *text)
{
    if (n->count < INDEX_NAMED)
        n->first[n->count] = text;
    n->count++;
}

char *index_files_text(struct index_files *f, const char *text)
{
    size_t bytes = strlen(text) + 1; /* < MANIFEST_URI_MAX */
    if (!f->texts || f->texts->used + bytes > TEXT_BYTES) {
        struct index_text *t = malloc(sizeof *t);
        if (!t)
            return NULL;
        t->next = f->texts;
        t->used = 0;
        f->texts = t;
    }
    char *copy = f->texts->bytes + f->texts->used;
    memcpy(copy, text, bytes);
    f->texts->used += bytes;
    return copy;
}

int index_files_append(struct index_files *f, const char *uri, struct index_file **out, struct err *e)
{
    if (strlen(uri) >= MANIFEST_URI_MAX)
        return err_set(e, -ENAMETOOLONG, "%.80s...: path is longer than %d bytes", uri, MANIFEST_URI_MAX - 1);
    if (f->count == f->capacity) {
        size_t more = f->capacity ? f->capacity * 2 : 1024;
        struct index_file *grown = realloc(f->file, more * sizeof *grown);
        if (!grown)
            return err_sys(e, ENOMEM, "list of %zu files", more);
        f->file = grown;
        f->capacity = more;
    }
    struct index_file *n = &f->file[f->count];
    *n = (struct index_file){.uri = index_files_text(f, uri)};
    if (!n->uri)
        return err_sys(e, ENOMEM, "list of files");
    f->count++;
    *out = n;
    return 0;
}

static int add(struct index_files *f, const char *uri, struct err *e)
{
    struct index_file *n;
    int rc = index_files_append(f, uri, &n, e);
    if (rc == 0)
        n->archive = index_files_is_archive(uri);
    return rc;
}

/* The part of an absolute path below the root, or the path itself. */
static const char *below(const struct index_files *f, const char *absolute)
{
    size_t n = strlen(f->root);
    if (!strcmp(f->root, "/"))
        return absolute + 1;
    return !strncmp(absolute, f->root, n) && absolute[n] == '/' ? absolute + n + 1 : absolute;
}

int index_files_normalize(const char *base, const char *path, char out[PATH_MAX], struct err *e)
{
    char joined[2 * PATH_MAX];
    int n = path[0] == '/' ? snprintf(joined, sizeof joined, "%s", path)
                           : snprintf(joined, sizeof joined, "%s/%s", base, path);
    if (n < 0 || (size_t)n >= PATH_MAX)
        return err_set(e, -ENAMETOOLONG, "%.80s...: path too long", path);
    size_t len = 0;
    for (char *save, *part = strtok_r(joined, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
        if (!strcmp(part, "."))
            continue;
        if (!strcmp(part, "..")) {
            while (len && out[--len] != '/')
                continue;
            continue;
        }
        out[len++] = '/';
        size_t size = strlen(part);
        memcpy(out + len, part, size);
        len += size;
    }
    if (!len)
        out[len++] = '/';
    out[len] = '\0';
    return 0;
}

static int walk(struct index_files *f, struct err *e)
{
    char *const roots[] = {f->root, NULL};
    FTS *fts = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    FTSENT *at;
    int rc = 0;
    if (!fts)
        return err_sys(e, errno, "%s", f->root);
    while (!rc && (errno = 0, at = fts_read(fts))) {
        switch (at->fts_info) {
        case FTS_DNR:
        case FTS_DC: /* a link back up */
        case FTS_ERR:
            f->unreadable++;
            break;
        case FTS_F:
        case FTS_SLNONE: /* a link to nothing is a file that cannot be opened */
        case FTS_NS:
            if (index_files_is_media(at->fts_name) || index_files_is_archive(at->fts_name))
                rc = add(f, below(f, at->fts_path), e);
            f->compressed += index_files_is_compressed(at->fts_name);
            break;
        default:
            break;
        }
    }
    if (!rc && errno)
        rc = err_sys(e, errno, "%s", f->root);
    fts_close(fts);
    return rc;
}

static int by_uri(const void *a, const void *b)
{
    return strcmp(((const struct index_file *)a)->uri, ((const struct index_file *)b)->uri);
}

void index_files_sort(struct index_files *f)
{
    size_t kept = 0;
    if (!f->count)
        return;
    qsort(f->file, f->count, sizeof *f->file, by_uri);
    for (size_t i = 1; i < f->count; i++) {
        if (strcmp(f->file[kept].uri, f->file[i].uri))
            f->file[++kept] = f->file[i];
    }
    f->count = kept + 1;
}

static int set_root(struct index_files *f, const char *path, bool parent, struct err *e)
{
    char full[PATH_MAX];
    if (!realpath(path, full))
        return err_sys(e, errno, "%s", path);
    char *slash = parent ? strrchr(full, '/') : NULL;
    if (slash)
        slash[slash == full] = '\0';
    memcpy(f->root, full, sizeof full);
    return 0;
}

int index_files_begin(struct index_files *f, const char *folder, struct err *e)
{
    memset(f, 0, sizeof *f);
    return set_root(f, folder, false, e);
}

int index_files_walk(struct index_files *f, struct err *e)
{
    int rc = walk(f, e);
    index_files_sort(f);
    return rc;
}

int index_files_add(struct index_files *f, const char *absolute, struct err *e)
{
    return add(f, below(f, absolute), e);
}

int index_files_find(struct index_files *f, const char *const *paths, size_t n, struct err *e)
{
    struct stat st;
    char full[PATH_MAX];
    memset(f, 0, sizeof *f);
    if (stat(paths[0], &st))
        return err_sys(e, errno, "%s", paths[0]);
    bool folder = S_ISDIR(st.st_mode);
    int rc = set_root(f, paths[0], !folder, e);
    if (rc == 0 && folder)
        return index_files_walk(f, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = realpath(paths[i], full) ? index_files_add(f, full, e) : err_sys(e, errno, "%s", paths[i]);
    index_files_sort(f);
    return rc;
}

void index_files_keep_named(struct index_files *f)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->count; i++)
        if (f->file[i].named)
            f->file[kept++] = f->file[i];
    f->count = kept;
}

void index_files_close(struct index_files *f)
{
    for (struct index_text *t = f->texts, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    free(f->file);
    f->texts = NULL;
    f->file = NULL;
    f->count = 0;
}

struct index_file *index_files_by_uri(const struct index_files *f, const char *uri)
{
    struct index_file key = {.uri = (char *)(uintptr_t)uri};
    return f->count ? bsearch(&key, f->file, f->count, sizeof *f->file, by_uri) : NULL;
}

struct index_file *index_files_lookup(const struct index_files *f, const char *absolute)
{
    return index_files_by_uri(f, below(f, absolute));
}

bool index_files_same(const struct index_files *f, const char *uri, uint64_t size, int64_t mtime_ns)
{
    uint64_t size_now;
    int64_t mtime_now;
    return media_file_stat(f->root, uri, &size_now, &mtime_now) == 0 && size_now == size &&
           mtime_now == mtime_ns;
}
