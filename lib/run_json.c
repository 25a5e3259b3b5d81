#include "lib/run_json.h"

#include <errno.h>
#include <stdlib.h>
#include "lib/fsutil.h"

#define BYTES_MAX (1 << 20)

static int parse(const char *path, const char *text, json_t **out, struct err *e)
{
    static const char advice[] = "put a sound copy of the file back, or use another run directory";
    json_error_t at;
    *out = json_loads(text, 0, &at);
    if (!*out)
        return err_set(e, XDC_EFORMAT, "%s:%d: is not JSON (%s); %s", path, at.line, at.text, advice);
    if (json_is_object(json_object_get(*out, "config")))
        return 0;
    json_decref(*out);
    *out = NULL;
    return err_set(e, XDC_EFORMAT, "%s: holds no configuration (\"config\"); %s", path, advice);
}

int run_json_read(const char *run_dir, json_t **out, struct err *e)
{
    char path[PATH_MAX];
    char *text = NULL;
    size_t size;
    *out = NULL;
    int rc = fs_path(path, e, "%s/" RUN_JSON, run_dir);
    if (rc == 0)
        rc = fs_read(path, BYTES_MAX, &text, &size, e);
    if (rc == -ENOENT)
        return err_set(e, rc, "%s is no run directory: it has no " RUN_JSON "; give the run.dir of a run",
                       run_dir);
    if (rc == 0)
        rc = parse(path, text, out, e);
    free(text);
    return rc;
}

const char *run_json_config(const json_t *record, const char *key)
{
    return json_string_value(json_object_get(json_object_get(record, "config"), key));
}
