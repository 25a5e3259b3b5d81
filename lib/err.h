/* err: an error as a code and a sentence that grows on the way up.
 * Used by everything. Pure; owns nothing; never fails, never logs, never exits.
 * A code is a negative errno (equal to libuv's codes on Linux) or one of enum err_code. */
#pragma once
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WARN_UNUSED __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

enum err_code {
    XDC_ECONF = -1000,     /* the configuration or command line is wrong: exit 78 */
    XDC_EFORMAT = -1001,   /* bytes from outside do not have the form they claim: exit 65 */
    XDC_EMISMATCH = -1002, /* of another manifest, round, run or version: exit 65 */
    XDC_EMEDIA = -1003,    /* a media file cannot be used: exit 65 */
    XDC_ETORCH = -1004,    /* libtorch threw: exit 70 */
    XDC_ESTOPPED = -1005,  /* asked to stop, or the other side has closed: exit 75 */
    XDC_ESTORE = -1006,    /* LMDB: exit 74 */
    XDC_ELOCKED = -1007,   /* another process owns it: exit 75 */
    XDC_EUSAGE = -1008,    /* wrong arguments: exit 64 */
    XDC_EUNSTABLE = -1009, /* a loss, gradient or weight is not finite: exit 65 */
    XDC_ELOST = -1010,     /* another rank has gone: exit 69, and another start goes on */
};

struct err {
    int code;
    char msg[1024];
};

/* Sets code and sentence; `e` may be NULL. Returns `code`. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Sets -errnum and "<sentence>: <strerror>". Returns -errnum. */
int err_sys(struct err *e, int errnum, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts "<context>: " before the sentence. Returns e->code (0 if `e` is NULL). */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The sysexits.h status for a code; 0 for 0. ENOSPC and EIO give 74, unknown codes 70. */
int err_exit_status(int code);

#ifdef __cplusplus
}
#endif
