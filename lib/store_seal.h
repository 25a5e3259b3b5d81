/* store_seal: the last 40 bytes of a sealed LMDB file (docs/formats.md), by which it is known to be whole
 * before LMDB follows a pointer in it. Used by store and store_file. Blocking; any thread; owns nothing. */
#pragma once
#include <stdint.h>
#include "lib/err.h"

/* XDC_EFORMAT when the file is not sealed, cut or altered: always its size is checked, and the hash of its
 * structure unless it is larger than check_bytes. */
int store_seal_check(const char *path, int fd, uint64_t check_bytes, struct err *e) WARN_UNUSED;
/* Makes the file `pages` long and puts the seal behind them; the caller syncs. errno codes. */
int store_seal_write(const char *path, int fd, uint64_t pages, uint32_t page_bytes,
                     struct err *e) WARN_UNUSED;
