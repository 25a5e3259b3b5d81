/* Manifests, quarantines, lists of key frames, and what the command keeps of interrupted work: any bytes give
 * what can be, or a sentence. The first byte chooses the reader: the seeds are a letter and then the file. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "cli/doctor_report.h"
#include "cli/index_partial.h"
#include "lib/fsutil.h"
#include "lib/keyframe_list.h"
#include "lib/manifest.h"
#include "lib/quarantine_file.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_manifest(const uint8_t *data, size_t size)
{
    struct manifest *m;
    struct err e;
    if (manifest_open(fuzz_file(data, size), &m, &e) < 0)
        return;
    static struct manifest_video v;
    for (uint64_t i = 0; i < manifest_count(m) && i < 100; i++) {
        double at;
        int64_t pos;
        if (manifest_get(m, i, &v, &e) == 0)
            require(v.uri[0] && memchr(v.uri, 0, sizeof v.uri) && v.split <= MANIFEST_SPLIT_TEST);
        manifest_keyframe(m, i, 1.0, &at, &pos);
        require(pos >= -1 && at >= 0);
    }
    manifest_close(m);
}

/* The check of altered bytes is put right first, so that what lies behind it is reached. */
static void fuzz_keyframes(const uint8_t *data, size_t size)
{
    struct media_keyframe keys[MEDIA_KEYFRAMES_MAX];
    uint8_t again[KEYFRAME_LIST_BYTES], list[KEYFRAME_LIST_BYTES];
    if (size < 4 || size > sizeof list)
        return;
    memcpy(list, data, size);
    uint32_t check = (uint32_t)XXH3_64bits_withSeed(list, size - 4, ~(uint64_t)3);
    memcpy(list + size - 4, &check, sizeof check);
    int n = keyframe_list_decode(3, list, size, keys);
    require(n <= MEDIA_KEYFRAMES_MAX);
    for (int i = 0; i < n; i++)
        require(keys[i].time_s >= 0 && keys[i].pos >= 0 &&
                (i == 0 || (keys[i].time_s >= keys[i - 1].time_s && keys[i].pos >= keys[i - 1].pos)));
    if (n >= 0)
        require(keyframe_list_encode(3, keys, (uint32_t)n, again) > 0);
}

static void fuzz_quarantine(const uint8_t *data, size_t size)
{
    struct quarantine_list list;
    struct err e;
    if (quarantine_file_read(fuzz_file(data, size), &list, &e) < 0)
        return;
    for (size_t i = 1; i < list.n; i++)
        require(list.videos[i].video > list.videos[i - 1].video && list.videos[i].code > 0);
    free(list.videos);
}

static bool keep_entry(void *arg, const struct doctor_entry *d)
{
    (void)arg;
    require(d->fault < MEDIA_REASONS && d->facts >> MEDIA_FACTS == 0 && memchr(d->uri, 0, sizeof d->uri));
    char *line = doctor_entry_print(d);
    static struct doctor_entry again;
    require(line && doctor_entry_parse(line, strlen(line), &again) && again.fault == d->fault &&
            again.index == d->index && again.facts == d->facts && strcmp(again.uri, d->uri) == 0);
    free(line);
    return true;
}

static void fuzz_report(const uint8_t *data, size_t size)
{
    const char *line = (const char *)data, *end = line + size;
    static struct doctor_entry d;
    while (line < end) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        next = next ? next + 1 : end;
        if (doctor_entry_parse(line, (size_t)(next - line), &d))
            keep_entry(NULL, &d);
        line = next;
    }
}

static void on_record(void *arg, uint64_t at, const char *uri, const struct index_found *f)
{
    struct media_keyframe keys[MEDIA_KEYFRAMES_MAX];
    struct index_found again;
    require(uri[0] && f->keyframes <= MEDIA_KEYFRAMES_MAX && f->reason < MEDIA_REASONS);
    require(index_partial_get(arg, at, &again, keys, NULL) == 0 && again.size_bytes == f->size_bytes);
}

static void fuzz_partial(const uint8_t *data, size_t size)
{
    struct index_partial p;
    struct err e;
    require(index_partial_open(&p, fuzz_real_file(data, size, "-manifest"), "/media", on_record, &p, &e) ==
            0);
    index_partial_close(&p, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(const uint8_t *, size_t) = {['m'] = fuzz_manifest,
                                                               ['k'] = fuzz_keyframes,
                                                               ['q'] = fuzz_quarantine,
                                                               ['d'] = fuzz_report,
                                                               ['p'] = fuzz_partial};
    if (size > 0 && data[0] < sizeof readers / sizeof readers[0] && readers[data[0]])
        readers[data[0]](data + 1, size - 1);
    return 0;
}
