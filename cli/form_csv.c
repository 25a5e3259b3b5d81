/* Annotation files with separated fields: our own labels, Kinetics, AudioSet, VGGSound, AVE, ESC-50. */
#include <string.h>
#include <strings.h>

#include "cli/index_forms.h"

#define LOOK_ROWS 5

/* Index of the column of that name in a header, or -1. */
static int column(char *const field[], int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcasecmp(form_trim(field[i]), name))
            return i;
    return -1;
}

static bool has_columns(struct form_reader *r, const char *const *names)
{
    char *field[FORM_FIELDS];
    int n = form_fields(r, field, NULL);
    for (; *names; names++)
        if (column(field, n, *names) < 0)
            return false;
    return true;
}

/* Whether the first rows fit. */
static enum index_looks rows_fit(struct form_reader *r, bool (*fits)(char *const field[], int n))
{
    char *field[FORM_FIELDS];
    int rows = 0, n;
    while (rows < LOOK_ROWS && (n = form_fields(r, field, NULL)) > 0) {
        if (!fits(field, n))
            return INDEX_LOOKS_NO;
        rows++;
    }
    return rows ? INDEX_LOOKS_LIKE : INDEX_LOOKS_NO;
}

static int same_width(const struct form_reader *r, int n, int columns, struct err *e)
{
    if (n == columns)
        return 0;
    return form_fault(r, e, "%d fields, the first line has %d; quote what has a comma", n, columns);
}

static int take_split(const struct form_reader *r, char *word, int8_t *out, struct err *e)
{
    int split = form_split(form_trim(word));
    if (split < 0)
        return form_fault(r, e, "split '%s' is none of train, val, test", word);
    *out = (int8_t)split;
    return 0;
}

/* labels: path,label[,split] */

static enum index_looks labels_look(struct form_reader *r)
{
    static const char *const names[] = {"path", "label", NULL};
    return has_columns(r, names) ? INDEX_LOOKS_SURE : INDEX_LOOKS_NO;
}

static int labels_header(struct form_reader *r, int *out_columns, struct err *e)
{
    static const char *const names[] = {"path", "label", "split"};
    char *field[FORM_FIELDS];
    r->comments = false; /* a path may begin with # */
    int n = form_fields(r, field, e);
    if (n < 0)
        return n;
    bool good = n == 2 || n == 3;
    for (int i = 0; good && i < n; i++)
        good = column(field, n, names[i]) == i;
    *out_columns = n;
    return good ? 0 : form_fault(r, e, "the first line must be path,label or path,label,split");
}

static int labels_read(struct index_reading *g, struct err *e)
{
    char *field[FORM_FIELDS];
    int columns = 0, n = 0;
    int rc = labels_header(&g->reader, &columns, e);
    while (rc == 0 && (n = form_fields(&g->reader, field, e)) > 0) {
        struct index_row row = {.key = field[0], .start_s = -1, .key_kind = INDEX_KEY_PATH};
        rc = same_width(&g->reader, n, columns, e);
        if (rc == 0 && columns == 3)
            rc = take_split(&g->reader, field[2], &row.split, e);
        else
            row.split = INDEX_SPLIT_UNSAID;
        if (rc == 0 && !field[0][0])
            rc = form_fault(&g->reader, e, "no path");
        if (rc == 0) {
            row.label = field[1][0] ? field[1] : NULL;
            rc = index_rows_add(g, row, e);
        }
    }
    return rc ? rc : n;
}

const struct index_form form_labels = {.name = "labels",
                                       .what = "CSV path,label[,split]",
                                       .strict = true,
                                       .looks = labels_look,
                                       .read = labels_read};

/* kinetics: a header with label, youtube_id, time_start, time_end, split in any order */

static enum index_looks kinetics_look(struct form_reader *r)
{
    static const char *const names[] = {"youtube_id", "time_start", "time_end", NULL};
    return has_columns(r, names) ? INDEX_LOOKS_SURE : INDEX_LOOKS_NO;
}

static int kinetics_read(struct index_reading *g, struct err *e)
{
    char *field[FORM_FIELDS];
    int columns = form_fields(&g->reader, field, e), n = 0, rc = 0;
    int id = column(field, columns, "youtube_id"), start = column(field, columns, "time_start");
    int label = column(field, columns, "label"), split = column(field, columns, "split");
    if (columns < 0)
        return columns;
    if (id < 0 || start < 0)
        return form_fault(&g->reader, e, "the first line must name youtube_id and time_start");
    while (rc == 0 && (n = form_fields(&g->reader, field, e)) > 0) {
        struct index_row row = {.key_kind = INDEX_KEY_ID, .split = INDEX_SPLIT_UNSAID};
        double from;
        rc = same_width(&g->reader, n, columns, e);
        if (rc == 0 && !form_number(field[start], &from))
            rc = form_fault(&g->reader, e, "time_start '%s' is no number", field[start]);
        if (rc == 0 && split >= 0 && field[split][0])
            rc = take_split(&g->reader, field[split], &row.split, e);
        if (rc < 0)
            break;
        row.key = form_trim(field[id]);
        row.start_s = (float)from;
        row.label = label >= 0 && field[label][0] ? field[label] : NULL;
        rc = index_rows_add(g, row, e);
    }
    return rc ? rc : n;
}

const struct index_form form_kinetics = {.name = "kinetics",
                                         .what = "Kinetics CSV label,youtube_id,time_start,time_end,split",
                                         .by_walk = true,
                                         .split_by_name = true,
                                         .looks = kinetics_look,
                                         .read = kinetics_read};

/* audioset: id, start, end, "mid,mid,..."; and class_labels_indices.csv, index,mid,display_name */

static bool audioset_fits(char *const field[], int n)
{
    double number;
    return n >= 4 && field[0][0] && form_number(field[1], &number) && form_number(field[2], &number);
}

static bool audioset_is_names(struct form_reader *r)
{
    static const char *const names[] = {"index", "mid", "display_name", NULL};
    return has_columns(r, names);
}

static enum index_looks audioset_look(struct form_reader *r)
{
    bool marked = !strncmp(r->at, "# Segm", 6) || !strncmp(r->at, "# YTID", 6);
    enum index_looks rows = rows_fit(r, audioset_fits);
    return rows && marked ? INDEX_LOOKS_SURE : rows;
}

static int audioset_names(struct index_reading *g, struct err *e)
{
    char *field[FORM_FIELDS];
    int columns = form_fields(&g->reader, field, e), n = 0, rc = 0;
    int mid = column(field, columns, "mid"), name = column(field, columns, "display_name");
    if (columns < 0)
        return columns;
    while (rc == 0 && (n = form_fields(&g->reader, field, e)) > 0) {
        rc = same_width(&g->reader, n, columns, e);
        if (rc == 0)
            rc = index_rows_name(g->rows, form_trim(field[mid]), form_trim(field[name]), e);
    }
    return rc ? rc : n;
}

static int audioset_read(struct index_reading *g, struct err *e)
{
    char *field[FORM_FIELDS];
    int n = 0, rc = 0;
    while (rc == 0 && (n = form_fields(&g->reader, field, e)) > 0) {
        double start;
        if (!audioset_fits(field, n))
            return form_fault(&g->reader, e, "must be id, start, end, \"label,label\"");
        (void)form_number(field[1], &start);
        char *label = form_trim(field[3]), *comma = strchr(label, ',');
        if (comma)
            *comma = '\0';
        g->rows->several += comma || n > 4;
        const char *name = index_rows_find_name(g->rows, label);
        rc = index_rows_add(g,
                            (struct index_row){.key = form_trim(field[0]),
                                               .key_kind = INDEX_KEY_ID,
                                               .label = name     ? name
                                                        : *label ? label
                                                                 : NULL,
                                               .start_s = (float)start,
                                               .split = INDEX_SPLIT_UNSAID},
                            e);
    }
    return rc ? rc : n;
}

const struct index_form form_audioset = {.name = "audioset",
                                         .what = "AudioSet segments; the first label is the class",
                                         .by_walk = true,
                                         .split_by_name = true,
                                         .looks = audioset_look,
                                         .is_names = audioset_is_names,
                                         .read_names = audioset_names,
                                         .read = audioset_read};

/* vggsound: id,start,label,split without a header */

static bool vggsound_fits(char *const field[], int n)
{
    double number;
    return n == 4 && field[0][0] && form_number(field[1], &number) && form_split(form_trim(field[3])) > 0;
}

static enum index_looks vggsound_look(struct form_reader *r)
{
    return rows_fit(r, vggsound_fits);
}

static int vggsound_read(struct index_reading *g, struct err *e)
{
    char *field[FORM_FIELDS];
    int n = 0, rc = 0;
    while (rc == 0 && (n = form_fields(&g->reader, field, e)) > 0) {
        double start;
        if (!vggsound_fits(field, n))
            return form_fault(&g->reader, e, "must be youtube_id,start,label,train|val|test");
        (void)form_number(field[1], &start);
        rc = index_rows_add(g,
                            (struct index_row){.key = form_trim(field[0]),
                                               .key_kind = INDEX_KEY_ID,
                                               .label = field[2][0] ? field[2] : NULL,
                                               .start_s = (float)start,
                                               .split = (int8_t)form_split(form_trim(field[3]))},
                            e);
    }
    return rc ? rc : n;
}

const struct index_form form_vggsound = {.name = "vggsound",
                                         .what = "VGGSound CSV youtube_id,start,label,split",
                                         .by_walk = true,
                                         .looks = vggsound_look,
                                         .read = vggsound_read};

/* ave: Category&VideoID&Quality&StartTime&EndTime; the times lie within the clip */

static bool ave_is_header(char *const field[], int n)
{
    return n == 5 && !strcasecmp(field[0], "Category") && !strcasecmp(field[1], "VideoID");
}

static bool ave_fits(char *const field[], int n)
{
    double number;
    return ave_is_header(field, n) || (n == 5 && field[0][0] && field[1][0] &&
                                       form_number(field[3], &number) && form_number(field[4], &number));
}

static enum index_looks ave_look(struct form_reader *r)
{
    r->separator = '&';
    return rows_fit(r, ave_fits) ? INDEX_LOOKS_SURE : INDEX_LOOKS_NO;
}

static int ave_read(struct index_reading *g, struct err *e)
{
    char *field[FORM_FIELDS];
    int n = 0, rc = 0;
    g->reader.separator = '&';
    while (rc == 0 && (n = form_fields(&g->reader, field, e)) > 0) {
        if (!ave_fits(field, n))
            return form_fault(&g->reader, e, "must be Category&VideoID&Quality&StartTime&EndTime");
        if (ave_is_header(field, n))
            continue;
        g->rows->timed++;
        rc = index_rows_add(g,
                            (struct index_row){.key = form_trim(field[1]),
                                               .key_kind = INDEX_KEY_ID,
                                               .label = form_trim(field[0]),
                                               .start_s = -1,
                                               .split = INDEX_SPLIT_UNSAID},
                            e);
    }
    return rc ? rc : n;
}

const struct index_form form_ave = {.name = "ave",
                                    .what = "AVE annotations Category&VideoID&Quality&StartTime&EndTime",
                                    .by_walk = true,
                                    .split_by_name = true,
                                    .looks = ave_look,
                                    .read = ave_read};

/* esc50: a header with filename, fold, category */

static enum index_looks esc50_look(struct form_reader *r)
{
    static const char *const names[] = {"filename", "fold", "category", NULL};
    return has_columns(r, names) ? INDEX_LOOKS_SURE : INDEX_LOOKS_NO;
}

static int esc50_read(struct index_reading *g, struct err *e)
{
    char *field[FORM_FIELDS];
    int columns = form_fields(&g->reader, field, e), n = 0, rc = 0;
    int name = column(field, columns, "filename"), fold = column(field, columns, "fold");
    int label = column(field, columns, "category");
    uint64_t asked = g->rows->options.fold;
    if (columns < 0)
        return columns;
    if (name < 0 || fold < 0 || label < 0)
        return form_fault(&g->reader, e, "the first line must name filename, fold and category");
    while (rc == 0 && (n = form_fields(&g->reader, field, e)) > 0) {
        unsigned long of = 0;
        rc = same_width(&g->reader, n, columns, e);
        if (rc == 0 && (!form_whole(field[fold], &of) || of < 1 || of > 63))
            rc = form_fault(&g->reader, e, "fold '%s' is no number from 1 to 63", field[fold]);
        if (rc < 0)
            break;
        g->rows->folds |= (uint64_t)1 << of;
        int split = !asked ? INDEX_SPLIT_UNSAID : of == asked ? MANIFEST_SPLIT_TEST : MANIFEST_SPLIT_TRAIN;
        rc = index_rows_add(g,
                            (struct index_row){.key = form_trim(field[name]),
                                               .key_kind = INDEX_KEY_NAME,
                                               .label = field[label][0] ? field[label] : NULL,
                                               .start_s = -1,
                                               .split = (int8_t)split},
                            e);
    }
    return rc ? rc : n;
}

const struct index_form form_esc50 = {.name = "esc50",
                                      .what = "ESC-50 CSV filename,fold,target,category",
                                      .by_walk = true,
                                      .looks = esc50_look,
                                      .read = esc50_read};
