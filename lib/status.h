/* status: HTTP/1.1 on a Unix socket: /healthz, /status (JSON), /metrics (Prometheus text). Used by every
 * daemon; the client side by the command. Loop thread only. Owns the listening socket and its file. */
#pragma once
#include <jansson.h>
#include <uv.h>
#include "lib/err.h"

struct status_server;

struct status_calls {
    const char *daemon;                  /* "trainer": metrics are xdc_trainer_<path of the JSON leaf> */
    json_t *(*status)(void *arg);        /* a new reference; numbers among its leaves become metrics */
    const char *(*unhealthy)(void *arg); /* NULL when healthy, else one sentence (503) */
    void *arg;
};

/* Serves on `path`, replacing a dead server's socket file. `calls` is copied. */
int status_start(uv_loop_t *loop, const char *path, const struct status_calls *calls,
                 struct status_server **out, struct err *e) WARN_UNUSED;
/* Closes and removes the socket file; its memory goes when the loop has run its close callbacks. NULL is
 * fine. */
void status_stop(struct status_server *s);

/* GET `target` over the Unix socket `path`, blocking up to timeout_ms. The malloc'd body is the caller's.
 * *out_http is the HTTP status. -ECONNREFUSED or -ENOENT when nobody serves there. */
int status_get(const char *path, const char *target, int timeout_ms, char **out_body, int *out_http,
               struct err *e) WARN_UNUSED;
