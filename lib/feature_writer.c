/* The writing half of feature_store. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "lib/feature_record.h"
#include "lib/feature_store_impl.h"
#include "lib/fsutil.h"
#include "lib/half.h"
#include "lib/progress.h"

#define SYNC_S 5.0                     /* what the end of the system may cost */
#define ROOM_BYTES ((uint64_t)1 << 20) /* beside a block: trees and the file beside the dump */

struct encoder {
    unsigned rows_db, valid_db;
    void *pages;    /* owned: of the block that is being filled */
    uint8_t *block; /* in them, its values up to its last row */
    uint8_t present[FEATURE_BITMAP_BYTES];
    uint64_t index;     /* of that block */
    uint64_t filled;    /* its rows up to the last one that is there; 0: none is */
    uint64_t next_row;  /* the first row that may come, counted from the shard's first */
    uint64_t kept;      /* rows below are from an earlier process */
    bool stored;        /* the block is in the file, but not yet in the progress */
    XXH3_state_t *hash; /* owned */
};

struct feature_writer {
    struct store_file file;
    struct feature_progress progress;
    struct feature_record begun; /* as the progress begins */
    bool is_copy;                /* and what is sealed must be it */
    struct feature_note *notes;  /* owned: of an earlier process */
    uint64_t n_notes, notes_capacity, reserve_mib;
    double synced_s;
    unsigned meta_db;
    bool recorded;
    struct encoder encoder[FEATURE_ENCODERS_MAX];
};

void feature_writer_close(struct feature_writer *w)
{
    if (!w)
        return;
    store_file_close(&w->file);
    feature_progress_close(&w->progress);
    for (uint32_t i = 0; i < FEATURE_ENCODERS_MAX; i++) {
        free(w->encoder[i].pages);
        XXH3_freeState(w->encoder[i].hash);
    }
    free(w->notes);
    free(w);
}

static int path_in_tmp(const struct feature_store *s, const char *name, char out[PATH_MAX], struct err *e)
{
    return fs_path(out, e, "%s.tmp%s%s", s->dir, *name ? "/" : "", name);
}

static int open_encoders(struct feature_store *s, struct err *e)
{
    struct feature_writer *w = s->writer;
    int rc = store_file_db(&w->file, "meta", &w->meta_db, e);
    for (uint32_t i = 0; rc == 0 && i < s->info.encoders; i++) {
        struct encoder *enc = &w->encoder[i];
        char name[STORE_FILE_NAME_MAX];
        snprintf(name, sizeof name, "%s/valid", s->info.encoder[i].name);
        rc = store_file_db(&w->file, s->info.encoder[i].name, &enc->rows_db, e);
        if (rc == 0)
            rc = store_file_db(&w->file, name, &enc->valid_db, e);
        enc->pages = store_file_pages(
            (uint32_t)(FEATURE_BLOCK_ROWS * s->info.encoder[i].dim * feature_value_bytes(s->info.dtype)));
        enc->hash = XXH3_createState();
        if (rc == 0 && (!enc->pages || !enc->hash))
            rc = err_sys(e, ENOMEM, "create %s", s->dir);
        if (rc < 0)
            break;
        enc->block = (uint8_t *)enc->pages + STORE_FILE_HEADER;
        XXH3_64bits_reset(enc->hash);
    }
    return rc;
}

static int keep_note(struct feature_writer *w, struct feature_note note, struct err *e)
{
    if (w->n_notes == w->notes_capacity) {
        uint64_t more = w->notes_capacity ? 2 * w->notes_capacity : 64;
        struct feature_note *grown = realloc(w->notes, more * sizeof *grown);
        if (!grown)
            return err_sys(e, ENOMEM, "notes of a dump");
        w->notes = grown;
        w->notes_capacity = more;
    }
    w->notes[w->n_notes++] = note;
    return 0;
}

/* Takes a block of an earlier process into the dump: 1, or 0 when it is not as its mark says. */
static int adopt_block(struct feature_store *s, const struct feature_mark *mark, struct err *e)
{
    struct feature_writer *w = s->writer;
    if (mark->encoder >= s->info.encoders || mark->block >= feature_block_count(&s->info) ||
        mark->block * FEATURE_BLOCK_ROWS < w->encoder[mark->encoder].kept)
        return 0;
    struct encoder *enc = &w->encoder[mark->encoder];
    size_t bytes = feature_block_bytes(&s->info, mark->encoder, mark->block);
    int rc = store_file_read_back(&w->file, enc->pages, (uint32_t)bytes, e);
    if (rc < 0)
        return rc == XDC_EFORMAT ? 0 : rc;
    XXH3_state_t *hash = XXH3_createState();
    if (!hash)
        return err_sys(e, ENOMEM, "go on with %s", s->dir);
    XXH3_copyState(hash, enc->hash);
    feature_hash_block(hash, mark->block, mark->valid, enc->block, bytes);
    bool same = XXH3_64bits_digest(hash) == mark->hash;
    if (same) {
        XXH3_copyState(enc->hash, hash);
        rc = store_file_adopt(&w->file, enc->rows_db, mark->block, (uint32_t)bytes, e);
        if (rc == 0)
            rc = store_file_put(&w->file, enc->valid_db, mark->block, mark->valid, FEATURE_BITMAP_BYTES, e);
        enc->kept = enc->next_row = (mark->block + 1) * FEATURE_BLOCK_ROWS;
        s->info.encoder[mark->encoder].valid += feature_count_bits(mark->valid, FEATURE_BITMAP_BYTES);
    }
    XXH3_freeState(hash);
    return rc < 0 ? rc : same;
}

/* Finds what an earlier process has left, drops what lies behind it. */
static int go_on(struct feature_store *s, struct err *e)
{
    struct feature_writer *w = s->writer;
    uint64_t at = 0, good = 0;
    struct feature_entry entry;
    int rc;
    while ((rc = feature_progress_next(&w->progress, &at, &entry, e)) > 0) {
        rc = entry.is_note ? keep_note(w, entry.note, e) : adopt_block(s, &entry.mark, e);
        if (rc < 0 || (rc == 0 && !entry.is_note))
            break;
        good = at;
    }
    if (rc == 0)
        rc = feature_progress_cut(&w->progress, good ? good : sizeof(struct feature_record), e);
    return rc < 0 ? rc : store_file_cut(&w->file, e);
}

/* `sealed`: the record of what is copied, or NULL. */
static int start_writer(struct feature_store *s, const struct feature_record *sealed, struct err *e)
{
    char tmp[PATH_MAX], data[PATH_MAX], progress[PATH_MAX];
    struct feature_writer *w = s->writer;
    w->is_copy = sealed != NULL;
    if (sealed)
        w->begun = *sealed;
    else
        feature_record_fill(&s->info, (const uint64_t[FEATURE_ENCODERS_MAX]){0}, &w->begun);
    int rc = path_in_tmp(s, "", tmp, e);
    if (rc == 0)
        rc = path_in_tmp(s, "data.mdb", data, e);
    if (rc == 0)
        rc = path_in_tmp(s, "progress", progress, e);
    if (rc == 0)
        rc = fs_mkdirs(tmp, e);
    if (rc == 0)
        rc = feature_progress_open(&w->progress, progress, &w->begun, e);
    if (rc == 0)
        rc = store_file_open(&w->file, data, e);
    if (rc == 0)
        rc = open_encoders(s, e);
    w->synced_s = progress_now_s();
    return rc < 0 ? rc : go_on(s, e);
}

static int create(const char *dir, const struct feature_info *info, const struct feature_record *sealed,
                  struct feature_store **out, struct err *e)
{
    struct stat st;
    if (lstat(dir, &st) == 0)
        return err_sys(e, EEXIST, "create %s", dir);
    struct feature_store *s = calloc(1, sizeof *s);
    if (!s)
        return err_sys(e, ENOMEM, "create %s", dir);
    s->info = *info;
    s->info.hash = 0;
    for (uint32_t i = 0; i < info->encoders; i++)
        s->info.encoder[i].valid = 0;
    s->dir = strdup(dir);
    s->writer = calloc(1, sizeof *s->writer);
    if (s->writer)
        s->writer->file.fd = s->writer->progress.fd = -1;
    int rc = s->dir && s->writer ? start_writer(s, sealed, e) : err_sys(e, ENOMEM, "create %s", dir);
    if (rc < 0) {
        feature_store_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

int feature_store_create(const char *dir, const struct feature_info *info, struct feature_store **out,
                         struct err *e)
{
    int rc = feature_info_check(dir, info, -EINVAL, e);
    return rc < 0 ? rc : create(dir, info, NULL, out, e);
}

int feature_store_create_copy(const char *dir, const struct feature_record *record,
                              struct feature_store **out, struct err *e)
{
    struct feature_info info;
    int rc = feature_record_parse(dir, record, sizeof *record, &info, e);
    return rc < 0 ? rc : create(dir, &info, record, out, e);
}

void feature_store_reserve(struct feature_store *s, uint64_t mib)
{
    s->writer->reserve_mib = mib;
}

uint64_t feature_store_missing(const struct feature_store *s, uint32_t encoder)
{
    uint64_t kept = s->writer->encoder[encoder].kept;
    return s->info.first + (kept < s->info.rows ? kept : s->info.rows);
}

uint64_t feature_store_notes(const struct feature_store *s, const struct feature_note **out)
{
    *out = s->writer->notes;
    return s->writer->n_notes;
}

static int check_room(const struct feature_store *s, uint64_t need, struct err *e)
{
    char tmp[PATH_MAX], what[64];
    snprintf(what, sizeof what, "the next block of the dump of round %u", s->info.round);
    int rc = path_in_tmp(s, "", tmp, e);
    return rc < 0 ? rc : fs_check_room(tmp, what, need + ROOM_BYTES, s->writer->reserve_mib, e);
}

static int sync_if_due(struct feature_writer *w, struct err *e)
{
    double now_s = progress_now_s();
    if (now_s - w->synced_s < SYNC_S)
        return 0;
    w->synced_s = now_s;
    int rc = store_file_sync(&w->file, e);
    return rc < 0 ? rc : feature_progress_sync(&w->progress, e);
}

/* Zeros in the place of the rows from the last one of the block up to `end`. */
static void fill_gap(const struct feature_store *s, uint32_t encoder, uint64_t end)
{
    const struct encoder *enc = &s->writer->encoder[encoder];
    size_t row = s->info.encoder[encoder].dim * feature_value_bytes(s->info.dtype);
    memset(enc->block + enc->filled * row, 0, (end - enc->filled) * row);
}

/* Stores the block that an encoder has filled, if it has a row, and makes it empty. After -ENOSPC it may be
 * called again. */
static int flush_block(struct feature_store *s, uint32_t encoder, struct err *e)
{
    struct feature_writer *w = s->writer;
    struct encoder *enc = &w->encoder[encoder];
    if (!enc->filled)
        return 0;
    size_t bytes = feature_block_bytes(&s->info, encoder, enc->index);
    uint64_t page = w->file.pages;
    int rc = check_room(s, bytes, e);
    if (rc == 0 && !enc->stored) {
        fill_gap(s, encoder, feature_block_rows(&s->info, enc->index));
        rc = store_file_append(&w->file, enc->rows_db, enc->index, enc->pages, (uint32_t)bytes, e);
        if (rc == 0)
            rc = store_file_put(&w->file, enc->valid_db, enc->index, enc->present, FEATURE_BITMAP_BYTES, e);
        if (rc < 0)
            return rc;
        store_file_hurry(&w->file, page);
        feature_hash_block(enc->hash, enc->index, enc->present, enc->block, bytes);
        enc->stored = true;
    }
    struct feature_mark mark = {.encoder = encoder, .block = enc->index};
    if (rc == 0) {
        mark.hash = XXH3_64bits_digest(enc->hash);
        memcpy(mark.valid, enc->present, sizeof mark.valid);
        rc = feature_progress_mark(&w->progress, &mark, e);
    }
    if (rc < 0)
        return rc;
    s->info.encoder[encoder].valid += feature_count_bits(enc->present, FEATURE_BITMAP_BYTES);
    memset(enc->present, 0, sizeof enc->present);
    enc->filled = 0;
    enc->stored = false;
    return sync_if_due(w, e);
}

static int check_place(const struct feature_store *s, uint32_t encoder, uint64_t row, struct err *e)
{
    if (s->sealed)
        return err_set(e, -EROFS, "%s: a sealed dump is not written", s->dir);
    if (encoder >= s->info.encoders || !feature_in_shard(&s->info, row))
        return err_set(e, -EINVAL,
                       "%s: row %llu of encoder %u: there are %llu rows from %llu on, %u encoders", s->dir,
                       (unsigned long long)row, encoder, (unsigned long long)s->info.rows,
                       (unsigned long long)s->info.first, s->info.encoders);
    const struct encoder *enc = &s->writer->encoder[encoder];
    uint64_t own = row - s->info.first;
    if (own < enc->next_row && own >= enc->kept)
        return err_set(e, -EINVAL, "%s: row %llu of %s comes after row %llu", s->dir, (unsigned long long)row,
                       s->info.encoder[encoder].name,
                       (unsigned long long)(s->info.first + enc->next_row - 1));
    return 0;
}

/* Refuses what is no number in the dump's dtype: one such value would make every centroid of its cluster
 * none. */
static int store_values(struct feature_store *s, uint32_t encoder, uint64_t row, const float *values,
                        void *to, struct err *e)
{
    static const char *const as[] = {"", "", " as f16", " as bf16"};
    uint32_t dim = s->info.encoder[encoder].dim;
    bool good = s->info.dtype == FEATURE_F16    ? half_from_float(values, to, dim)
                : s->info.dtype == FEATURE_BF16 ? bfloat_from_float(values, to, dim)
                                                : float_copy(values, to, dim);
    if (good)
        return 0;
    return err_set(e, -ERANGE, "%s: row %llu of %s in round %u has a value that is not finite%s", s->dir,
                   (unsigned long long)row, s->info.encoder[encoder].name, s->info.round, as[s->info.dtype]);
}

int feature_store_put(struct feature_store *s, uint32_t encoder, uint64_t row, const float *values,
                      struct err *e)
{
    int rc = check_place(s, encoder, row, e);
    if (rc < 0)
        return rc;
    struct encoder *enc = &s->writer->encoder[encoder];
    uint64_t own = row - s->info.first, at = own % FEATURE_BLOCK_ROWS;
    if (own < enc->kept)
        return 0;
    if (own / FEATURE_BLOCK_ROWS != enc->index)
        rc = flush_block(s, encoder, e);
    if (rc < 0)
        return rc;
    size_t row_bytes = s->info.encoder[encoder].dim * feature_value_bytes(s->info.dtype);
    fill_gap(s, encoder, at);
    rc = store_values(s, encoder, row, values, enc->block + at * row_bytes, e);
    if (rc < 0)
        return rc;
    enc->present[at / 8] = (uint8_t)(enc->present[at / 8] | 1u << at % 8);
    enc->index = own / FEATURE_BLOCK_ROWS;
    enc->filled = at + 1;
    enc->next_row = own + 1;
    return 0;
}

/* Whether a bitmap names rows, and none but the `rows` that there are. */
static bool fits(const uint8_t *present, uint64_t rows)
{
    uint64_t there = 0;
    for (uint64_t i = 0; i < rows; i++)
        there += present[i / 8] >> i % 8 & 1;
    return there > 0 && there == feature_count_bits(present, FEATURE_BITMAP_BYTES);
}

int feature_store_put_block(struct feature_store *s, uint32_t encoder, uint64_t block, const uint8_t *present,
                            const void *values, struct err *e)
{
    if (block >= feature_block_count(&s->info)) /* before it is multiplied */
        return err_set(e, -EINVAL, "%s: there is no block %llu", s->dir, (unsigned long long)block);
    uint64_t own = block * FEATURE_BLOCK_ROWS, rows = feature_block_rows(&s->info, block);
    int rc = check_place(s, encoder, s->info.first + own, e);
    if (rc < 0)
        return rc;
    if (!fits(present, rows))
        return err_set(e, XDC_EFORMAT,
                       "%s: block %llu of %s has a bitmap of no row or of rows beyond its end", s->dir,
                       (unsigned long long)block, s->info.encoder[encoder].name);
    struct encoder *enc = &s->writer->encoder[encoder];
    if (own < enc->kept)
        return 0;
    rc = flush_block(s, encoder, e);
    if (rc < 0)
        return rc;
    memcpy(enc->block, values, feature_block_bytes(&s->info, encoder, block));
    memcpy(enc->present, present, sizeof enc->present);
    enc->index = block;
    enc->filled = rows;
    enc->next_row = own + rows;
    rc = flush_block(s, encoder, e);
    return rc == -ENOSPC && enc->filled ? 0 : rc; /* it waits for the next call */
}

int feature_store_note(struct feature_store *s, uint64_t row, uint32_t reason, struct err *e)
{
    if (s->sealed)
        return err_set(e, -EROFS, "%s: a sealed dump is not written", s->dir);
    return feature_progress_note(&s->writer->progress, &(struct feature_note){row, reason}, e);
}

static int write_record(struct feature_store *s, struct err *e)
{
    struct feature_writer *w = s->writer;
    uint64_t hashes[FEATURE_ENCODERS_MAX];
    struct feature_record r;
    if (w->recorded)
        return 0;
    for (uint32_t i = 0; i < s->info.encoders; i++)
        hashes[i] = XXH3_64bits_digest(w->encoder[i].hash);
    feature_record_fill(&s->info, hashes, &r);
    if (w->is_copy && r.hash != w->begun.hash)
        return err_set(e, XDC_EFORMAT, "%s: the features are not those that were sealed", s->dir);
    s->info.hash = r.hash;
    int rc = store_file_put(&w->file, w->meta_db, 0, &r, sizeof r, e);
    w->recorded = rc == 0;
    return rc;
}

/* The dump has its name; what served its writing goes. */
static int publish(struct feature_store *s, struct err *e)
{
    char tmp[PATH_MAX], progress[PATH_MAX];
    int rc = path_in_tmp(s, "", tmp, e);
    if (rc == 0)
        rc = fs_publish_dir(tmp, s->dir, e);
    if (rc == 0)
        rc = fs_path(progress, e, "%s/progress", s->dir);
    if (rc == 0 && unlink(progress) < 0)
        rc = err_sys(e, errno, "remove %s", progress);
    return rc;
}

int feature_store_seal(struct feature_store *s, uint64_t *out_hash, struct err *e)
{
    int rc = 0;
    if (s->sealed)
        return err_set(e, -EROFS, "%s: sealed already", s->dir);
    for (uint32_t i = 0; rc == 0 && i < s->info.encoders; i++)
        rc = flush_block(s, i, e);
    if (rc == 0)
        rc = write_record(s, e);
    if (rc == 0)
        rc = store_file_seal(&s->writer->file, e);
    if (rc == 0)
        rc = publish(s, e);
    if (rc < 0) {
        err_wrap(e, "seal the features");
        return rc;
    }
    s->sealed = true;
    *out_hash = s->info.hash;
    return 0;
}
