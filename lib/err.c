#include "lib/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (!e)
        return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    e->code = code;
    return code;
}

int err_sys(struct err *e, int errnum, const char *fmt, ...)
{
    if (!e)
        return -errnum;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    size_t used = strlen(e->msg);
    char text[128];
    snprintf(e->msg + used, sizeof e->msg - used, ": %s", strerror_r(errnum, text, sizeof text));
    e->code = -errnum;
    return -errnum;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    if (!e)
        return 0;
    char old[sizeof e->msg];
    memcpy(old, e->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    size_t used = strlen(e->msg);
    snprintf(e->msg + used, sizeof e->msg - used, ": %s", old);
    return e->code;
}

/* sysexits.h: 64 usage, 65 data, 66 no input, 70 software, 73 cannot create, 74 I/O, 75 try again, 77
 * permission, 78 config */
int err_exit_status(int code)
{
    switch (code) {
    case 0:
        return 0;
    case XDC_EUSAGE:
        return 64;
    case XDC_EFORMAT:
    case XDC_EMISMATCH:
    case XDC_EMEDIA:
    case XDC_EUNSTABLE: /* another start would only repeat it */
        return 65;
    case XDC_ELOST:
        return 69;
    case -ENOENT:
        return 66;
    case -EEXIST:
        return 73;
    case XDC_ESTORE:
    case -ENOSPC:
    case -EDQUOT:
    case -EIO:
    case -EROFS:
        return 74;
    case XDC_ESTOPPED:
    case XDC_ELOCKED:
        return 75;
    case -EACCES:
    case -EPERM:
        return 77;
    case XDC_ECONF:
        return 78;
    default:
        return 70;
    }
}
