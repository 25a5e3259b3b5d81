/* doctor_report: what `xdc doctor` found, one JSON line a file; also its memory: a doctor that is started
 * again keeps the lines that still hold. Used by cmd_doctor. Blocking; one thread. Lines are appended whole;
 * a torn or strange line is passed over. */
#pragma once
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include "lib/manifest.h"
#include "lib/media/media.h"

struct doctor_entry {
    uint64_t index;
    char uri[MANIFEST_URI_MAX];
    uint32_t fault, facts; /* enum media_reason; bits */
    char detail[200];
    struct media_examination counts;
    uint64_t size_bytes;
    int64_t mtime_ns;
    bool video, audio; /* needs that it was judged by */
    double min_sound_s;
};

/* The line of an entry, with its newline; malloc'd. NULL without memory. Bytes of the uri that are no UTF-8
 * become question marks. */
char *doctor_entry_print(const struct doctor_entry *d);
/* False for what is no such line. */
bool doctor_entry_parse(const char *line, size_t size, struct doctor_entry *out);
/* Whether an entry's uri is this one, as it is printed. */
bool doctor_entry_is_of(const struct doctor_entry *d, const char *uri);

struct doctor_report {
    int fd; /* -1: not open */
    double synced_s;
    char path[PATH_MAX];
};

/* Opens `path` for appending, with a lock: XDC_ELOCKED when another doctor has it. Every entry that is there
 * is shown to `keep`; those that it refuses, and whatever is no entry, are removed from the file. */
int doctor_report_open(struct doctor_report *r, const char *path,
                       bool (*keep)(void *arg, const struct doctor_entry *d), void *arg,
                       struct err *e) WARN_UNUSED;
/* Appends; synced to the disk now and then. */
int doctor_report_add(struct doctor_report *r, const struct doctor_entry *d, struct err *e) WARN_UNUSED;
/* Syncs. Safe on one that was not opened. */
int doctor_report_close(struct doctor_report *r, struct err *e) WARN_UNUSED;
