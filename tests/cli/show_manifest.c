/* Prints each video of a manifest: uri, class or -, split; separated by tabs. */
#include <stdio.h>
#include <stdlib.h>
#include "lib/manifest.h"

int main(int argc, char **argv)
{
    static const char *const splits[] = {"none", "train", "val", "test"};
    static struct manifest_video v;
    struct manifest *m = NULL;
    struct err e = {0};
    int rc = argc == 2 ? manifest_open(argv[1], &m, &e) : -1;
    for (uint64_t i = 0; rc == 0 && i < manifest_count(m); i++) {
        rc = manifest_get(m, i, &v, &e);
        if (rc == 0)
            printf("%s\t%s\t%s\n", v.uri, v.truth < 0 ? "-" : manifest_class_name(m, v.truth),
                   splits[v.split]);
    }
    if (rc < 0)
        fprintf(stderr, "show_manifest: %s\n", e.msg);
    manifest_close(m);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
