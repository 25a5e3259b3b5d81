#include "lib/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lib/fsutil.h"

/* The number behind `key` in a text of lines, or -1; without a key the text's own. */
static double number_in(const char *path, const char *key)
{
    char *text = NULL;
    size_t size;
    struct err e;
    if (fs_read(path, 1 << 20, &text, &size, &e) < 0) {
        free(text);
        return -1;
    }
    const char *at = *key ? strstr(text, key) : text;
    char *end = NULL;
    double v = at ? strtod(at + strlen(key), &end) : -1;
    bool good = at && end != at + strlen(key);
    free(text);
    return good ? v : -1;
}

/* What a control group and those above it leave, or INFINITY. Files in their caches give way. */
static double group_free(char *dir, size_t root)
{
    char path[PATH_MAX];
    double least = INFINITY;
    for (;;) {
        double max = -1, current = -1, files = -1;
        if (fs_path(path, NULL, "%s/memory.max", dir) == 0)
            max = number_in(path, "");
        if (fs_path(path, NULL, "%s/memory.current", dir) == 0)
            current = number_in(path, "");
        if (fs_path(path, NULL, "%s/memory.stat", dir) == 0)
            files = number_in(path, "\ninactive_file ");
        if (max >= 0 && current >= 0)
            least = fmin(least, fmax(0, max - current + fmax(0, files)));
        char *slash = strrchr(dir, '/');
        if (strlen(dir) <= root || !slash)
            return least;
        *slash = '\0';
    }
}

double memory_free(void)
{
    static const char root[] = "/sys/fs/cgroup";
    double kib = number_in("/proc/meminfo", "\nMemAvailable:"), least = kib >= 0 ? 1024 * kib : INFINITY;
    char *text = NULL, dir[PATH_MAX];
    size_t size;
    struct err e;
    if (fs_read("/proc/self/cgroup", 1 << 20, &text, &size, &e) == 0) {
        const char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
        const char *at = line ? strchr(line, '/') : NULL;
        if (at && fs_path(dir, NULL, "%s%.*s", root, (int)strcspn(at, "\n"), at) == 0)
            least = fmin(least, group_free(dir, strlen(root)));
    }
    free(text);
    return isinf(least) ? 0 : least;
}
