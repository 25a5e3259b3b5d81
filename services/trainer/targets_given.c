/* Labels that another run has made (labels.from). */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/fsutil.h"
#include "lib/run_json.h"
#include "services/trainer/targets.h"

/* What makes clip ids mean the same moments; its run.json says what the other run had. */
static int check_moments(const char *run_dir, const struct conf *c, struct err *e)
{
    static const struct {
        const char *key, *before; /* before: of runs from before there was the key */
    } keys[] = {{"run.seed", NULL},
                {"data.clips_per_video", NULL},
                {"data.clip_times", "random"},
                {"video.frames", NULL},
                {"video.fps", NULL}};
    char here[CONF_STRING_MAX];
    json_t *record;
    int rc = run_json_read(run_dir, &record, e);
    if (rc < 0)
        return err_wrap(e, "labels.from");
    for (size_t i = 0; rc == 0 && i < sizeof keys / sizeof keys[0]; i++) {
        conf_print_value(c, conf_find(keys[i].key), here, sizeof here);
        const char *there = run_json_config(record, keys[i].key);
        there = there ? there : keys[i].before;
        if (!there || strcmp(there, here) != 0)
            rc = err_set(
                e, XDC_EMISMATCH,
                "labels.from: the labels of %s are of other moments of the videos: its %s is %s, here "
                "it is %s; set it to the same",
                run_dir, keys[i].key, there ? there : "unknown", here);
    }
    json_decref(record);
    return rc;
}

static int find_table(const struct conf *c, char path[PATH_MAX], struct err *e)
{
    struct stat st;
    char labels[PATH_MAX];
    uint32_t round;
    if (stat(c->labels.from, &st) < 0)
        return err_sys(e, errno, "labels.from: %s", c->labels.from);
    if (!S_ISDIR(st.st_mode))
        return fs_path(path, e, "%s", c->labels.from);
    int rc = check_moments(c->labels.from, c, e);
    if (rc == 0)
        rc = fs_path(labels, e, "%s/labels", c->labels.from);
    if (rc == 0)
        rc = fs_last_round(labels, ".xdcl", &round, e);
    return rc == 0 ? fs_path(path, e, "%s/round-%04u.xdcl", labels, round) : rc;
}

int targets_given(struct targets *t, const struct targets_method *method, const struct conf *c,
                  uint64_t manifest, uint64_t clips, struct err *e)
{
    char path[PATH_MAX];
    struct label_table *table = NULL;
    int rc = find_table(c, path, e);
    if (rc == 0)
        rc = label_table_open(path, &table, e);
    if (rc < 0)
        return rc;
    const struct label_info *i = label_table_info(table);
    if (i->manifest != manifest)
        rc =
            err_set(e, XDC_EMISMATCH, "labels.from: %s is of manifest %016llx, the configured one is %016llx",
                    path, (unsigned long long)i->manifest, (unsigned long long)manifest);
    else if (i->clips != clips)
        rc = err_set(e, XDC_EMISMATCH, "labels.from: %s labels %llu clips, the run has %llu", path,
                     (unsigned long long)i->clips, (unsigned long long)clips);
    if (rc < 0) {
        label_table_close(table);
        return rc;
    }
    rc = targets_adopt(t, method, table, e);
    return rc < 0 ? err_wrap(e, "labels.from: %s", path) : 0;
}
