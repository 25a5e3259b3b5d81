/* Records are TFRecord's: u64 length, masked CRC-32C of the length, data, masked CRC-32C of the data. The
 * data are tensorflow.Event messages (event.proto, summary.proto); of their fields only those below are
 * written. */
#include "lib/tfevents.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "lib/crc32c.h"
#include "lib/fsutil.h"
#include "lib/varint.h"

#define FRAME_HEAD 12
#define FRAME_TAIL 4
#define MESSAGE_MAX (TFEVENTS_TAG_MAX + 64)

enum {
    EVENT_WALL_TIME = 1,
    EVENT_STEP = 2,
    EVENT_FILE_VERSION = 3,
    EVENT_SUMMARY = 5,
    EVENT_SESSION_LOG = 7
};
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE_VALUE = 2 };
enum { SESSION_LOG_STATUS = 1, SESSION_LOG_START = 1 };
enum { PROTO_VARINT = 0, PROTO_FIXED64 = 1, PROTO_BYTES = 2, PROTO_FIXED32 = 5 };

struct tfevents {
    int fd; /* owned */
    char path[PATH_MAX];
};

static uint8_t *put_key(uint8_t *p, unsigned field, unsigned type)
{
    *p++ = (uint8_t)(field << 3 | type);
    return p;
}

static uint8_t *put_varint(uint8_t *p, unsigned field, uint64_t value)
{
    return varint_put(put_key(p, field, PROTO_VARINT), value);
}

static uint8_t *put_bytes(uint8_t *p, unsigned field, const void *data, size_t size)
{
    p = varint_put(put_key(p, field, PROTO_BYTES), size);
    memcpy(p, data, size);
    return p + size;
}

static uint8_t *put_fixed32(uint8_t *p, uint32_t value)
{
    value = htole32(value);
    memcpy(p, &value, sizeof value);
    return p + sizeof value;
}

static uint8_t *put_fixed64(uint8_t *p, uint64_t value)
{
    value = htole64(value);
    memcpy(p, &value, sizeof value);
    return p + sizeof value;
}

/* Stored CRCs are masked, since a CRC over data with CRCs in it is weak. */
static uint32_t masked_crc(const void *data, size_t size)
{
    uint32_t crc = crc32c(data, size);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Appends an Event of wall time, step and one more field, which is a message or string. */
static int append(struct tfevents *t, double time_s, uint64_t step, unsigned field, const void *data,
                  size_t size, struct err *e)
{
    uint8_t record[FRAME_HEAD + MESSAGE_MAX + 64 + FRAME_TAIL];
    uint8_t *message = record + FRAME_HEAD, *p = message;
    uint64_t time_bits;
    memcpy(&time_bits, &time_s, sizeof time_bits);
    p = put_fixed64(put_key(p, EVENT_WALL_TIME, PROTO_FIXED64), time_bits);
    p = put_varint(p, EVENT_STEP, step);
    p = put_bytes(p, field, data, size);
    size_t length = (size_t)(p - message);
    put_fixed64(record, length);
    put_fixed32(record + 8, masked_crc(record, 8));
    p = put_fixed32(p, masked_crc(message, length));
    return fs_append(t->fd, record, (size_t)(p - record), t->path, e);
}

int tfevents_scalar(struct tfevents *t, double time_s, uint64_t step, const char *tag, float value,
                    struct err *e)
{
    uint8_t inner[MESSAGE_MAX], summary[MESSAGE_MAX];
    size_t n = strlen(tag);
    if (n >= TFEVENTS_TAG_MAX)
        return err_sys(e, ENAMETOOLONG, "%s: tag %.32s...", t->path, tag);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint8_t *p = put_bytes(inner, VALUE_TAG, tag, n);
    p = put_fixed32(put_key(p, VALUE_SIMPLE_VALUE, PROTO_FIXED32), bits);
    p = put_bytes(summary, SUMMARY_VALUE, inner, (size_t)(p - inner));
    return append(t, time_s, step, EVENT_SUMMARY, summary, (size_t)(p - summary), e);
}

/* The version comes first; the session's start makes what lies from its step on void. */
static int begin(struct tfevents *t, double time_s, uint64_t first_step, struct err *e)
{
    static const char version[] = "brain.Event:2";
    uint8_t start[2 + VARINT_MAX];
    size_t n = (size_t)(put_varint(start, SESSION_LOG_STATUS, SESSION_LOG_START) - start);
    int rc = append(t, time_s, 0, EVENT_FILE_VERSION, version, sizeof version - 1, e);
    return rc == 0 ? append(t, time_s, first_step, EVENT_SESSION_LOG, start, n, e) : rc;
}

int tfevents_open(const char *dir, uint64_t first_step, struct tfevents **out, struct err *e)
{
    char host[65] = "";
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (gethostname(host, sizeof host - 1) < 0 || !*host)
        snprintf(host, sizeof host, "localhost");
    struct tfevents *t = malloc(sizeof *t);
    if (!t)
        return err_sys(e, ENOMEM, "event file in %s", dir);
    t->fd = -1;
    int rc = fs_path(t->path, e, "%s/events.out.tfevents.%010lld.%06ld.%s.%d", dir, (long long)now.tv_sec,
                     now.tv_nsec / 1000, host, (int)getpid());
    if (rc == 0) {
        t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
        rc = t->fd < 0 ? err_sys(e, errno, "create %s", t->path) : 0;
    }
    if (rc == 0)
        rc = begin(t, (double)now.tv_sec + (double)now.tv_nsec * 1e-9, first_step, e);
    if (rc < 0) {
        tfevents_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

void tfevents_close(struct tfevents *t)
{
    if (!t)
        return;
    if (t->fd >= 0)
        close(t->fd);
    free(t);
}
