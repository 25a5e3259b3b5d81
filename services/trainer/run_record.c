#include "services/trainer/run_record.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/fsutil.h"
#include "lib/run_json.h"
#include "lib/torch/net.h"

static json_t *make_record(const struct conf *c, uint64_t run, uint64_t manifest)
{
    char run_hex[17], manifest_hex[17], value[CONF_STRING_MAX];
    snprintf(run_hex, sizeof run_hex, "%016" PRIx64, run);
    snprintf(manifest_hex, sizeof manifest_hex, "%016" PRIx64, manifest);
    json_t *config = json_object();
    for (size_t i = 0; i < conf_schema_len; i++) {
        conf_print_value(c, &conf_schema[i], value, sizeof value);
        json_object_set_new(config, conf_schema[i].key, json_string(value));
    }
    return json_pack("{s:i, s:s, s:s, s:o, s:{s:s, s:s}}", "format", 1, "run", run_hex, "manifest",
                     manifest_hex, "config", config, "versions", "xdc", XDC_VERSION, "libtorch",
                     net_torch_version());
}

/* Appends "key: there, here" for every key of the identity that differs. */
static int compare(const struct conf *c, const char *path, const json_t *there, const json_t *here,
                   struct err *e)
{
    char diff[800] = "";
    size_t used = 0;
    const char *a = json_string_value(json_object_get(there, "manifest"));
    const char *b = json_string_value(json_object_get(here, "manifest"));
    if (!a || strcmp(a, b) != 0)
        used += (size_t)snprintf(diff, sizeof diff, " manifest identity %s, now %s;", a ? a : "none", b);
    for (size_t i = 0; i < conf_schema_len; i++) {
        if (!conf_is_identity(c, &conf_schema[i]))
            continue;
        a = run_json_config(there, conf_schema[i].key);
        b = run_json_config(here, conf_schema[i].key);
        if (a && strcmp(a, b) != 0 && used < sizeof diff - 1)
            used += (size_t)snprintf(diff + used, sizeof diff - used, " %s %s, now %s;", conf_schema[i].key,
                                     a, b);
    }
    if (diff[0] == '\0')
        return 0;
    return err_set(e, XDC_ECONF, "%s is of another run:%s use another run.dir, or put these back", path,
                   diff);
}

int run_record_check(const struct conf *c, uint64_t run, uint64_t manifest, struct err *e)
{
    char path[PATH_MAX];
    json_t *there;
    int rc = fs_path(path, e, "%s/" RUN_JSON, c->run.dir);
    if (rc < 0)
        return rc;
    json_t *here = make_record(c, run, manifest);
    if (!here)
        return err_sys(e, ENOMEM, "run record");
    rc = run_json_read(c->run.dir, &there, e);
    if (rc == 0) {
        rc = compare(c, path, there, here, e);
    } else if (rc == -ENOENT) {
        char *text = json_dumps(here, JSON_INDENT(2));
        rc = text ? fs_write_atomic(path, text, strlen(text), e) : err_sys(e, ENOMEM, "run record");
        free(text);
    }
    json_decref(there);
    json_decref(here);
    return rc;
}
