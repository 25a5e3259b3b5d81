#include "cli/index_report.h"

#include <jansson.h>
#include <stdio.h>

static json_t *codes_json(const uint64_t *counts, unsigned first, unsigned end)
{
    json_t *j = json_object();
    for (unsigned c = first; c < end; c++)
        if (counts[c - first])
            json_object_set_new(j, media_code_name(c), json_integer((json_int_t)counts[c - first]));
    return j;
}

static void set_count(json_t *j, const char *key, uint64_t n)
{
    json_object_set_new(j, key, json_integer((json_int_t)n));
}

/* A name with bytes that are no UTF-8 is left out; the count is right. */
static void set_named(json_t *j, const char *key, const struct index_named *n)
{
    json_t *first = json_array();
    for (size_t i = 0; i < n->count && i < INDEX_NAMED; i++)
        if (n->first[i])
            json_array_append_new(first, json_string(n->first[i]));
    json_object_set_new(j, key, json_pack("{sI so}", "count", (json_int_t)n->count, "first", first));
}

static json_t *labels_json(const struct index_report *r)
{
    const struct index_match *m = r->match;
    return json_pack("{si sI sI sI}", "classes", (int)r->summary->classes, "labelled",
                     (json_int_t)m->labelled, "unmatched_rows", (json_int_t)m->missing.count,
                     "unmatched_files", (json_int_t)m->unmatched_files);
}

static json_t *list_json(const struct index_report *r)
{
    const struct index_match *m = r->match;
    json_t *j = json_object();
    set_count(j, "rows", m->rows);
    set_count(j, "unlabelled", m->unlabelled);
    set_count(j, "left_out", r->rows->left_out);
    set_count(j, "several_labels", r->rows->several);
    set_count(j, "times_ignored", r->rows->timed);
    set_count(j, "split_by_name", r->rows->split_by_name);
    set_named(j, "missing", &m->missing);
    set_named(j, "ambiguous", &m->ambiguous);
    set_named(j, "repeated", &m->repeated);
    set_named(j, "conflicting", &m->conflicting);
    set_named(j, "classes_without_clips", &m->no_clip);
    set_named(j, "classes_without_test_clips", &m->no_test);
    set_named(j, "classes_unknown", &m->unknown);
    return j;
}

static json_t *archives_json(const struct index_shards *s)
{
    json_t *j = json_object();
    set_count(j, "archives", s->archives);
    set_count(j, "members", s->members);
    set_count(j, "media", s->media);
    set_count(j, "passed_over", s->passed);
    set_count(j, "others", s->others);
    set_named(j, "broken", &s->broken);
    set_named(j, "labels_unread", &s->unread);
    return j;
}

void index_report_json(const struct index_report *r)
{
    static const char *const splits[] = {"none", "train", "val", "test"};
    const struct index_summary *s = r->summary;
    char identity[17];
    json_t *j = json_object(), *of_splits = json_object();
    snprintf(identity, sizeof identity, "%016llx", (unsigned long long)s->identity);
    json_object_set_new(j, "manifest", json_string(r->out));
    json_object_set_new(j, "identity", json_string(identity));
    json_object_set_new(j, "media_root", json_string(r->files->root));
    json_object_set_new(j, "form", r->form ? json_string(r->form) : json_null());
    set_count(j, "videos", s->videos);
    set_count(j, "with_video", s->with_video);
    set_count(j, "with_audio", s->with_audio);
    json_object_set_new(j, "hours", json_real(s->hours));
    set_count(j, "bytes", s->bytes);
    json_object_set_new(j, "unreadable", codes_json(s->reasons + 1, 1, MEDIA_REASONS));
    json_object_set_new(j, "facts", codes_json(s->facts, MEDIA_ROTATED, MEDIA_FACTS_END));
    json_object_set_new(j, "labels", labels_json(r));
    for (int i = 0; i < 4; i++)
        set_count(of_splits, splits[i], s->splits[i]);
    json_object_set_new(j, "splits", of_splits);
    if (r->form)
        json_object_set_new(j, "list", list_json(r));
    if (r->files->shards.archives)
        json_object_set_new(j, "archives", archives_json(&r->files->shards));
    set_count(j, "repeated", r->match->repeated.count);
    set_count(j, "unreadable_folders", r->files->unreadable);
    set_count(j, "probed", s->probed);
    set_count(j, "keyframes", s->keyframes);
    json_object_set_new(j, "seconds", json_real(s->seconds));
    if (r->update)
        json_object_set_new(j, "update",
                            json_pack("{sI sI sI sI}", "unchanged", (json_int_t)s->unchanged, "changed",
                                      (json_int_t)s->changed, "gone", (json_int_t)s->gone, "added",
                                      (json_int_t)s->added));
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

static void print_named(const char *title, const struct index_named *n, const char *what)
{
    if (!n->count)
        return;
    printf("%-13s %zu %s", title, n->count, what);
    for (size_t i = 0; i < n->count && i < INDEX_NAMED && n->first[i]; i++)
        printf("%s%s", i ? ", " : ": ", n->first[i]);
    printf("%s\n", n->count > INDEX_NAMED && n->first[0] ? ", ..." : "");
}

static void print_count(const char *title, size_t n, const char *what)
{
    if (n)
        printf("%-13s %zu %s\n", title, n, what);
}

static void print_labels(const struct index_report *r)
{
    const struct index_match *m = r->match;
    const struct index_summary *s = r->summary;
    printf("labels        %u classes, %zu files labelled\n", s->classes, m->labelled);
    printf("splits        %llu train, %llu val, %llu test, %llu none\n",
           (unsigned long long)s->splits[MANIFEST_SPLIT_TRAIN],
           (unsigned long long)s->splits[MANIFEST_SPLIT_VAL],
           (unsigned long long)s->splits[MANIFEST_SPLIT_TEST],
           (unsigned long long)s->splits[MANIFEST_SPLIT_NONE]);
    if (m->rows)
        printf("unmatched     %zu rows without a file, %zu files without a row\n", m->missing.count,
               m->unmatched_files);
}

static void print_list(const struct index_report *r)
{
    const struct index_match *m = r->match;
    print_named("missing", &m->missing, "named and not there");
    if (m->missing.count)
        printf("              all of them are in %s.missing\n", r->out);
    print_named("ambiguous", &m->ambiguous, "of these, since several files fit");
    print_named("repeated", &m->repeated, "lines that name a file again");
    print_named("conflicting", &m->conflicting,
                "rows that differ from an earlier row for the file, which counts");
    print_count("unlabelled", m->unlabelled, "rows have no label");
    print_count("left out", r->rows->left_out, "of classes that were not asked for");
    print_count("labels", r->rows->several, "rows have several: the first is the class");
    print_count("times", r->rows->timed, "rows have times within the file, which are ignored");
    print_count("splits", r->rows->split_by_name,
                "rows have the split that the name of their list or archive says");
    print_named("no clips", &m->no_clip, "classes have none");
    print_named("no test clips", &m->no_test, "classes have none");
    print_named("unknown", &m->unknown, "classes that were asked for and are not named");
    if (r->rows->folds && !r->rows->options.fold)
        printf("folds         --fold N makes one the test split\n");
}

static void print_archives(const struct index_shards *s)
{
    if (!s->archives)
        return;
    printf("archives      %zu, %zu media of %zu members\n", s->archives, s->media, s->members);
    print_count("passed over", s->passed, "links, devices, sparse files and names that are too long");
    print_count("others", s->others, "members are neither media nor read for classes");
    print_named("broken", &s->broken, "archives");
    print_named("no class", &s->unread, "members that should give one and do not");
}

void index_report_table(const struct index_report *r)
{
    const struct index_summary *s = r->summary;
    if (r->form)
        printf("form          %s: %s\n", r->form, r->what);
    printf("videos        %llu\n", (unsigned long long)s->videos);
    if (r->update)
        printf("update        %llu unchanged, %llu changed, %llu gone, %llu new\n",
               (unsigned long long)s->unchanged, (unsigned long long)s->changed, (unsigned long long)s->gone,
               (unsigned long long)s->added);
    printf("with video    %llu\n", (unsigned long long)s->with_video);
    printf("with audio    %llu\n", (unsigned long long)s->with_audio);
    printf("hours         %.2f\n", s->hours);
    printf("bytes         %llu\n", (unsigned long long)s->bytes);
    for (unsigned i = 1; i < MEDIA_REASONS; i++)
        if (s->reasons[i])
            printf("unreadable    %llu %s: %s\n", (unsigned long long)s->reasons[i], media_code_name(i),
                   media_code_text(i));
    print_archives(&r->files->shards);
    if (r->labelled)
        print_labels(r);
    if (r->form)
        print_list(r);
    printf("identity      %016llx\n", (unsigned long long)s->identity);
    printf("seconds       %.2f\n", s->seconds);
}
