/* Tar archives as `xdc index` reads them: any bytes give members that lie within the archive, each of which
 * opens by its uri with the same bytes, or a sentence; classes are texts and splits are splits. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/index_shards.h"
#include "lib/media_file.h"
#include "lib/tar.h"
#include "tests/fuzz/fuzz.h"

static size_t walk(const char *path, size_t size)
{
    struct tar_member m;
    struct err e = {0};
    uint64_t at = 0;
    size_t n = 0;
    int rc, fd = open(path, O_RDONLY | O_CLOEXEC);
    require(fd >= 0);
    while ((rc = tar_member(fd, size, at, path, &m, &e)) == 1) {
        require(m.at == at && m.data >= at + TAR_BLOCK && m.data % TAR_BLOCK == 0 && m.data <= size);
        require(m.size <= size - m.data && m.next >= m.data + m.size && m.next % TAR_BLOCK == 0);
        require(strnlen(m.name, TAR_NAME_MAX) < TAR_NAME_MAX && (m.kind != TAR_FILE || m.name[0]));
        at = m.next;
        n++;
    }
    require(rc == 0 || (rc == XDC_EFORMAT && e.msg[0]));
    close(fd);
    return n;
}

static void read_shard(const uint8_t *data, size_t size)
{
    const char *path = fuzz_real_file(data, size, ".tar");
    struct index_files files = {0};
    struct err e = {0};
    size_t members = walk(path, size);
    require(index_files_find(&files, &path, 1, &e) == 0 && files.count == 1);
    require(index_shards_read(&files, true, -1, &e) == 0);
    const struct index_shards *s = &files.shards;
    require(s->members == members && s->media >= files.count && s->archives == 1);
    for (size_t i = 0; i < files.count; i++) {
        const struct index_file *f = &files.file[i];
        struct media_file open;
        require(f->member && media_file_open(files.root, f->uri, &open, &e) == 0);
        require(open.window.offset >= TAR_BLOCK && open.window.bytes == open.size);
        require(open.size <= size && open.window.offset <= size - open.size);
        require(f->split <= MANIFEST_SPLIT_TEST && (!f->label || f->label[0]));
        close(open.fd);
    }
    index_files_close(&files);
    unlink(path);
}

/* Gives every block with the mark of a header its right checksum. */
static void mend(uint8_t *data, size_t size)
{
    for (size_t at = 0; size - at >= TAR_BLOCK; at += TAR_BLOCK) {
        uint8_t *h = data + at;
        char text[9] = "";
        unsigned sum = 8 * ' ';
        if (memcmp(h + 257, "ustar", 5) != 0)
            continue;
        for (int i = 0; i < TAR_BLOCK; i++)
            sum += i < 148 || i >= 156 ? h[i] : 0u;
        snprintf(text, sizeof text, "%06o", sum);
        memcpy(h + 148, text, 8);
    }
}

/* As it is, and once more past the checksums, which changes at random would never get by. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    require(copy != NULL);
    memcpy(copy, data, size);
    read_shard(data, size);
    mend(copy, size);
    if (memcmp(copy, data, size) != 0)
        read_shard(copy, size);
    free(copy);
    return 0;
}
