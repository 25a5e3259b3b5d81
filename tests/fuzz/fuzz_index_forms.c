/* Annotation files: any bytes give rows that can be, or a sentence. The first byte chooses the form, - is
 * detection: the seeds are a letter and then the file. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/index_forms.h"
#include "cli/index_resolve.h"
#include "tests/fuzz/fuzz.h"

static void check_rows(const struct index_rows *r)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct index_row *row = &r->row[i];
        require(row->key && strlen(row->key) <= r->list[0].size && row->list == 0);
        require(row->split >= MANIFEST_SPLIT_NONE && row->split <= MANIFEST_SPLIT_TEST);
        require(!row->label || strlen(row->label) <= r->list[0].size + NAME_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const media[] = {"/tmp/yoga/aaaaaaaaaa1_000000_000010.mp4", "/tmp/aaaaaaaaaa2.mp4",
                                        "/tmp/A/v_A_g01.avi", "/tmp/a b.wav", "/tmp/x"};
    struct index_rows r;
    struct index_files files = {0};
    struct index_match m;
    struct err e;
    if (size == 0)
        return 0;
    size_t form = (size_t)data[0] - 'a';
    struct index_form_options o = {.split = -1, .fold = data[0] == 'h' ? 1 : 0};
    for (size_t i = 0; index_form_all[i]; i++)
        if (i == form)
            o.form = index_form_all[i]->name;
    const char *path = fuzz_real_file(data + 1, size - 1, "_test_split1.txt");
    require(index_files_begin(&files, "/tmp", &e) == 0);
    for (size_t i = 0; i < sizeof media / sizeof media[0]; i++)
        require(index_files_add(&files, media[i], &e) == 0);
    index_files_sort(&files);
    if (index_forms_read(&r, &o, &path, 1, &e) == 0) {
        check_rows(&r);
        if (index_resolve_labels(&r, &files, &m, &e) == 0) {
            require(m.matched + m.missing.count == m.rows && m.rows == r.count);
            require(index_resolve_classes(&r, &files, &m, &e) == 0);
        }
    }
    index_files_close(&files);
    index_rows_close(&r);
    unlink(path);
    return 0;
}
