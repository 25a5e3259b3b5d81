/* xdc doctor: examines every file of a manifest in sandboxed workers, and writes down which cannot be used.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/cli_options.h"
#include "cli/doctor.h"
#include "lib/cpus.h"

static const char help[] =
    "examples:\n"
    "  xdc doctor clips.lmdb                        decode every file once, write clips.lmdb.quarantine\n"
    "  xdc doctor clips.lmdb --needs video          for a run that does without sound\n"
    "  xdc doctor clips.lmdb && xdc run -c xdc.yaml train only if nothing is broken\n"
    "  jq -r 'select(.fault) | [.fault, .uri] | @tsv' clips.lmdb.doctor.jsonl\n"
    "\n"
    "usage: xdc doctor MANIFEST [options]\n"
    "  --out FILE          the report, one JSON line a file (default: MANIFEST.doctor.jsonl)\n"
    "  --needs LIST        video, audio or video,audio (default): what a file must have to be used\n"
    "  --min-sound-s S     with sound, files shorter than this are at fault (default 1.1, as "
    "data.min_sound_s)\n"
    "  --jobs N            media workers at one time (default: one per CPU)\n"
    "  --cpu-s N           CPU seconds for each file (default: 10 and 4 for each second of it, 7200 at "
    "most)\n"
    "  --memory-mib N      memory that a worker may take (default 512, as decoder.memory_mib)\n"
    "  --resume            keep what the report has of unchanged files (default)\n"
    "  --fresh             examine all files again\n"
    "  --json              print the summary as one JSON object\n"
    "  --exit-zero         exit 0 also where files are at fault\n"
    "\n"
    "Stopped at any moment, the same command goes on where it was. The files at fault go to "
    "MANIFEST.quarantine, "
    "of which\n"
    "a new run takes a copy: their clips are not drawn. `xdc explain CODE` says what a code means.\n"
    "Exits 0 when all files can be used, 65 when some are at fault, 64 for wrong arguments, 75 when "
    "interrupted.\n";

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* -1 to go on, else the exit status. */
static int parse(int argc, char **argv, struct doctor_options *o)
{
    int needs = 2;
    *o = (struct doctor_options){.min_sound_s = 1.1, .jobs = cpus_usable(), .memory_mib = 512};
    const struct cli_option options[] = {
        {"out", 'o', .text = &o->out},
        {"needs", .word = &needs, .words = "video|audio|video,audio|audio,video"},
        {"min-sound-s", .real = &o->min_sound_s, .max = 3600},
        {"jobs", 'j', .count32 = &o->jobs, .lo = 1, .hi = 1024},
        {"cpu-s", .count32 = &o->cpu_s, .lo = 1, .hi = 86400},
        {"memory-mib", .count32 = &o->memory_mib, .lo = 64, .hi = 65536},
        {"resume", .off = &o->fresh},
        {"fresh", .on = &o->fresh},
        {"json", .on = &o->json},
        {"exit-zero", .on = &o->exit_zero},
        {0}};
    int status = cli_options("doctor", help, options, argc, argv);
    o->video = needs != 1;
    o->audio = needs != 0;
    if (status < 0 && optind != argc - 1)
        status = cli_usage("doctor", "needs one MANIFEST");
    if (status < 0)
        o->manifest = argv[optind];
    return status;
}

static json_t *counts_json(const uint64_t *counts, unsigned first, unsigned end)
{
    json_t *j = json_object();
    for (unsigned c = first; c < end; c++)
        if (counts[c - first])
            json_object_set_new(j, media_code_name(c), json_integer((json_int_t)counts[c - first]));
    return j;
}

static void print_json(const struct doctor_summary *s)
{
    char identity[17];
    snprintf(identity, sizeof identity, "%016llx", (unsigned long long)s->identity);
    json_t *j =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:f}", "identity", identity, "report",
                  s->report, "quarantine", s->quarantine, "videos", (json_int_t)s->videos, "examined",
                  (json_int_t)s->examined, "kept", (json_int_t)s->kept, "faulty", (json_int_t)s->faulty,
                  "faults", counts_json(s->faults + 1, 1, MEDIA_REASONS), "facts",
                  counts_json(s->facts, MEDIA_ROTATED, MEDIA_FACTS_END), "seconds", s->seconds);
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(j);
}

static void print_table(const struct doctor_summary *s)
{
    printf("videos      %llu: %llu can be used, %llu at fault\n", (unsigned long long)s->videos,
           (unsigned long long)(s->videos - s->faulty), (unsigned long long)s->faulty);
    printf("examined    %llu, %llu kept from the report\n", (unsigned long long)s->examined,
           (unsigned long long)s->kept);
    for (unsigned c = 1; c < MEDIA_REASONS; c++)
        if (s->faults[c])
            printf("fault  %8llu  %-22s %s\n", (unsigned long long)s->faults[c], media_code_name(c),
                   media_code_text(c));
    for (unsigned c = MEDIA_ROTATED; c < MEDIA_FACTS_END; c++)
        if (s->facts[c - MEDIA_ROTATED])
            printf("fact   %8llu  %-22s %s\n", (unsigned long long)s->facts[c - MEDIA_ROTATED],
                   media_code_name(c), media_code_text(c));
    printf("report      %s\n", s->report);
    printf("quarantine  %s\n", s->quarantine);
    printf("seconds     %.2f\n", s->seconds);
    if (s->faulty)
        puts("xdc explain CODE says what causes a fault and what to do.");
}

int cli_doctor(int argc, char **argv)
{
    struct doctor_options o;
    struct doctor_summary s = {0};
    struct err e = {0};
    int status = parse(argc, argv, &o);
    if (status >= 0)
        return status;
    struct sigaction a = {.sa_handler = on_signal};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (doctor_run(&o, &stop, &s, &e) < 0)
        return cli_fail("doctor", &e);
    if (o.json)
        print_json(&s);
    else
        print_table(&s);
    if (fflush(stdout) || ferror(stdout)) {
        err_sys(&e, errno, "write the summary");
        return cli_fail("doctor", &e);
    }
    return s.faulty && !o.exit_zero ? 65 : 0;
}
