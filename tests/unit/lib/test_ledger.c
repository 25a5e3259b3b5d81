/* ledger: what is appended is on disk as documented, a mark brings it back, and what is missing or cannot be
 * written is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "lib/fsutil.h"
#include "lib/ledger.h"

#define RECORD 48

struct fixture {
    char root[64], dir[96];
};

static struct ledger_record record(uint64_t i)
{
    return (struct ledger_record){
        .step = i / 4,
        .position = i,
        .clip = i * 0x0102030405060708u,
        .labels = 0xfeedfacecafebeefu,
        .sample = ~i,
        .stream = (uint32_t)(i % 2),
        .disposition = LEDGER_TRAINED + (uint32_t)(i % 5),
    };
}

static const char *epoch_path(const struct fixture *f, unsigned epoch)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/epoch-%06u.led", f->dir, epoch);
    return path;
}

static off_t size_of(const struct fixture *f, unsigned epoch)
{
    struct stat st;
    return stat(epoch_path(f, epoch), &st) == 0 ? st.st_size : -1;
}

static void append(struct ledger *l, uint64_t from, uint64_t to)
{
    struct err e;
    for (uint64_t i = from; i < to; i++) {
        struct ledger_record r = record(i);
        assert_int_equal(ledger_append(l, &r, 1, &e), 0);
    }
}

/* The running hash computed again from the files, as docs/formats.md tells a reader to. */
static uint64_t hash_of_files(const struct fixture *f, unsigned epochs)
{
    unsigned char state[8 + RECORD] = {0};
    uint64_t hash = 0;
    for (unsigned epoch = 0; epoch < epochs; epoch++) {
        FILE *in = fopen(epoch_path(f, epoch), "rb");
        assert_non_null(in);
        while (fread(state + 8, 1, RECORD, in) == RECORD) {
            hash = XXH3_64bits(state, sizeof state);
            for (int i = 0; i < 8; i++)
                state[i] = (unsigned char)(hash >> (8 * i));
        }
        fclose(in);
    }
    return hash;
}

/* A record's bytes on disk are the fields in order, little endian, and nothing stands before them. */
static void bytes_on_disk(void **state)
{
    struct fixture *f = *state;
    const struct ledger_mark start = {0};
    const struct ledger_record r = {
        .step = 0x0807060504030201u,
        .position = 0x100f0e0d0c0b0a09u,
        .clip = 0x1817161514131211u,
        .labels = 0x201f1e1d1c1b1a19u,
        .sample = 0x2827262524232221u,
        .stream = 0x2c2b2a29u,
        .disposition = 0x302f2e2du,
    };
    struct ledger *l;
    struct err e;
    char *data;
    size_t size;
    assert_int_equal(ledger_open(f->dir, &start, &l, &e), 0);
    assert_int_equal(ledger_append(l, &r, 1, &e), 0);
    ledger_close(l);
    assert_int_equal(fs_read(epoch_path(f, 0), 4096, &data, &size, &e), 0);
    assert_int_equal(size, RECORD);
    for (int i = 0; i < RECORD; i++)
        assert_int_equal(data[i], i + 1);
    free(data);
}

/* The mark counts the epoch's bytes and hashes all records of all epochs, however they were batched. */
static void mark_covers_all_epochs(void **state)
{
    struct fixture *f = *state;
    const struct ledger_mark start = {0};
    struct ledger_record batch[10];
    struct ledger_mark mark;
    struct ledger *l;
    struct err e;
    assert_int_equal(ledger_open(f->dir, &start, &l, &e), 0);
    append(l, 0, 7);
    assert_int_equal(ledger_next_epoch(l, &e), 0);
    for (uint64_t i = 0; i < 10; i++)
        batch[i] = record(7 + i);
    assert_int_equal(ledger_append(l, batch, 10, &e), 0);
    assert_int_equal(ledger_append(l, batch, 0, &e), 0);
    assert_int_equal(ledger_next_epoch(l, &e), 0);
    append(l, 17, 20);
    assert_int_equal(ledger_sync(l, &mark, &e), 0);
    ledger_close(l);
    assert_int_equal(mark.epoch, 2);
    assert_int_equal(mark.size_bytes, 3 * RECORD);
    assert_int_equal(size_of(f, 0), 7 * RECORD);
    assert_int_equal(size_of(f, 1), 10 * RECORD);
    assert_int_equal(size_of(f, 2), 3 * RECORD);
    assert_true(mark.hash != 0 && mark.hash == hash_of_files(f, 3));
}

/* Opened at a mark, the ledger is cut back to it, later epochs go, and going on gives the bytes and hash of
 * an uninterrupted run. */
static void resumes_at_mark(void **state)
{
    struct fixture *f = *state;
    const struct ledger_mark start = {0};
    struct ledger_mark mark, whole, again;
    struct ledger *l;
    struct err e;
    assert_int_equal(ledger_open(f->dir, &start, &l, &e), 0);
    append(l, 0, 5);
    assert_int_equal(ledger_next_epoch(l, &e), 0);
    append(l, 5, 9);
    assert_int_equal(ledger_sync(l, &mark, &e), 0);
    append(l, 9, 12);
    assert_int_equal(ledger_next_epoch(l, &e), 0);
    append(l, 12, 15);
    assert_int_equal(ledger_sync(l, &whole, &e), 0);
    ledger_close(l);

    /* Beside ledger files, what the directory holds is not ours. */
    char other[128];
    snprintf(other, sizeof other, "%s/epoch-000009.led.old", f->dir);
    assert_int_equal(fs_write_atomic(other, "x", 1, &e), 0);
    assert_int_equal(fs_write_atomic(epoch_path(f, 1234567), "x", 1, &e), 0);

    assert_int_equal(ledger_open(f->dir, &mark, &l, &e), 0);
    assert_int_equal(size_of(f, 0), 5 * RECORD);
    assert_int_equal(size_of(f, 1), 4 * RECORD);
    assert_int_equal(size_of(f, 2), -1);
    assert_int_equal(size_of(f, 1234567), -1);
    assert_int_equal(access(other, F_OK), 0);
    append(l, 9, 12);
    assert_int_equal(ledger_next_epoch(l, &e), 0);
    append(l, 12, 15);
    assert_int_equal(ledger_sync(l, &again, &e), 0);
    ledger_close(l);
    assert_memory_equal(&again, &whole, sizeof whole);
    assert_true(again.hash == hash_of_files(f, 3));
}

/* A torn last record, as a crash leaves it, is cut away with the rest behind the mark. */
static void torn_record_is_cut(void **state)
{
    struct fixture *f = *state;
    const struct ledger_mark start = {0};
    struct ledger_mark mark;
    struct ledger *l;
    struct err e;
    assert_int_equal(ledger_open(f->dir, &start, &l, &e), 0);
    append(l, 0, 3);
    assert_int_equal(ledger_sync(l, &mark, &e), 0);
    ledger_close(l);
    FILE *out = fopen(epoch_path(f, 0), "ab");
    fwrite("half a record", 1, 13, out);
    fclose(out);
    assert_int_equal(ledger_open(f->dir, &mark, &l, &e), 0);
    assert_int_equal(size_of(f, 0), 3 * RECORD);
    append(l, 3, 4);
    ledger_close(l);
    assert_int_equal(size_of(f, 0), 4 * RECORD);
}

/* A file that is shorter than the mark, or gone, or a mark inside a record is XDC_EFORMAT; nothing is removed
 * then. */
static void missing_part_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct ledger_mark start = {0};
    struct ledger *l;
    struct err e;
    assert_int_equal(ledger_open(f->dir, &start, &l, &e), 0);
    append(l, 0, 3);
    assert_int_equal(ledger_next_epoch(l, &e), 0);
    append(l, 3, 4);
    ledger_close(l);
    static const struct {
        struct ledger_mark mark;
        const char *says;
    } cases[] = {
        {{0, 4 * RECORD, 1}, "has 144 bytes, the checkpoint counts on 192"},
        {{7, RECORD, 1}, "is missing"},
        {{0, RECORD + 1, 1}, "no whole records"},
        {{0, 1ull << 63, 1}, "no whole records"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(ledger_open(f->dir, &cases[i].mark, &l, &e), XDC_EFORMAT);
        assert_null(l);
        if (!strstr(e.msg, cases[i].says))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.msg, cases[i].says);
        assert_int_equal(size_of(f, 0), 3 * RECORD);
        assert_int_equal(size_of(f, 1), RECORD);
        assert_int_equal(size_of(f, 7), -1);
    }
}

/* A full disk is reported, the mark stays where it was, and every later call is refused with the first
 * reason. */
static void write_error_is_sticky(void **state)
{
    struct fixture *f = *state;
    const struct ledger_mark start = {0};
    const struct ledger_record r = record(1);
    struct ledger_mark mark = {0};
    struct ledger *l;
    struct err e;
    assert_int_equal(fs_mkdirs(f->dir, &e), 0);
    assert_int_equal(symlink("/dev/full", epoch_path(f, 0)), 0);
    assert_int_equal(ledger_open(f->dir, &start, &l, &e), 0);
    assert_int_equal(ledger_append(l, &r, 1, &e), -ENOSPC);
    assert_non_null(strstr(e.msg, "epoch-000000.led"));
    assert_int_equal(ledger_append(l, &r, 1, &e), -ENOSPC);
    assert_non_null(strstr(e.msg, "failed before"));
    assert_int_equal(ledger_sync(l, &mark, &e), -ENOSPC);
    assert_int_equal(ledger_next_epoch(l, &e), -ENOSPC);
    assert_int_equal(mark.size_bytes, 0);
    ledger_close(l);
}

/* The next epoch's file of another writer is never appended to. */
static void foreign_next_epoch_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct ledger_mark start = {0};
    const struct ledger_record r = record(1);
    struct ledger *l;
    struct err e;
    assert_int_equal(ledger_open(f->dir, &start, &l, &e), 0);
    assert_int_equal(fs_write_atomic(epoch_path(f, 1), "x", 1, &e), 0);
    assert_int_equal(ledger_next_epoch(l, &e), -EEXIST);
    assert_int_equal(ledger_append(l, &r, 1, &e), -EEXIST);
    ledger_close(l);
    assert_int_equal(size_of(f, 1), 1);
}

/* A directory that cannot be made is an error and leaves no handle; closing none is fine. */
static void bad_directory(void **state)
{
    (void)state;
    const struct ledger_mark start = {0};
    struct ledger *l;
    struct err e;
    assert_true(ledger_open("/dev/null/ledger", &start, &l, &e) < 0);
    assert_null(l);
    ledger_close(NULL);
}

static void expect_next(void *arg, const struct ledger_record *r)
{
    uint64_t *next = arg;
    struct ledger_record want = record((*next)++);
    assert_memory_equal(r, &want, sizeof want);
}

/* A reader is given every record as it was appended and the running hash over both epochs, more of them than
 * it reads at a time; half a record at the end is left out. */
static void read_back(void **state)
{
    struct fixture *f = *state;
    const struct ledger_mark start = {0};
    struct ledger_mark end;
    struct ledger *l;
    struct err e;
    uint64_t next = 0, hash = 0;
    assert_int_equal(ledger_open(f->dir, &start, &l, &e), 0);
    append(l, 0, 9000);
    assert_int_equal(ledger_next_epoch(l, &e), 0);
    append(l, 9000, 9001);
    assert_int_equal(ledger_sync(l, &end, &e), 0);
    ledger_close(l);
    assert_int_equal(ledger_read(epoch_path(f, 0), expect_next, &next, &hash, &e), 0);
    assert_int_equal(ledger_read(epoch_path(f, 1), expect_next, &next, &hash, &e), 0);
    assert_int_equal(next, 9001);
    assert_true(hash == end.hash && hash == hash_of_files(f, 2));
    assert_int_equal(truncate(epoch_path(f, 0), 9000 * RECORD - 1), 0);
    next = 0;
    assert_int_equal(ledger_read(epoch_path(f, 0), expect_next, &next, NULL, &e), 0);
    assert_int_equal(next, 8999);
    assert_int_equal(ledger_read(epoch_path(f, 7), expect_next, &next, NULL, &e), -ENOENT);
    assert_non_null(strstr(e.msg, "epoch-000007.led"));
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->root, sizeof f->root, "/tmp/xdc-test-ledger-XXXXXX");
    if (!mkdtemp(f->root))
        return -1;
    snprintf(f->dir, sizeof f->dir, "%s/run/ledger", f->root);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct err e;
    int r = fs_remove_tree(f->root, &e);
    free(f);
    return r;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_on_disk),
        TEST(mark_covers_all_epochs),
        TEST(resumes_at_mark),
        TEST(torn_record_is_cut),
        TEST(read_back),
        TEST(missing_part_is_refused),
        TEST(write_error_is_sticky),
        TEST(foreign_next_epoch_is_refused),
        cmocka_unit_test(bad_directory),
    };
    return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
