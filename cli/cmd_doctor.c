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
#include "cli/doctor.h"

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

static bool parse_needs(const char *list, struct doctor_options *o)
{
    o->video =
        strcmp(list, "video") == 0 || strcmp(list, "video,audio") == 0 || strcmp(list, "audio,video") == 0;
    o->audio =
        strcmp(list, "audio") == 0 || strcmp(list, "video,audio") == 0 || strcmp(list, "audio,video") == 0;
    return o->video || o->audio;
}

enum { OPT_NEEDS = 256, OPT_MIN, OPT_CPU, OPT_MEMORY, OPT_RESUME, OPT_FRESH, OPT_JSON, OPT_ZERO };

static const struct option options[] = {{"out", required_argument, NULL, 'o'},
                                        {"needs", required_argument, NULL, OPT_NEEDS},
                                        {"min-sound-s", required_argument, NULL, OPT_MIN},
                                        {"jobs", required_argument, NULL, 'j'},
                                        {"cpu-s", required_argument, NULL, OPT_CPU},
                                        {"memory-mib", required_argument, NULL, OPT_MEMORY},
                                        {"resume", no_argument, NULL, OPT_RESUME},
                                        {"fresh", no_argument, NULL, OPT_FRESH},
                                        {"json", no_argument, NULL, OPT_JSON},
                                        {"exit-zero", no_argument, NULL, OPT_ZERO},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static int wrong(const char *what, const char *range)
{
    return cli_usage("doctor", "%s %s: must be %s", what, optarg, range);
}

/* -1 to go on, else the exit status. */
static int take_option(int c, struct doctor_options *o)
{
    uint64_t n = 0;
    switch (c) {
    case 'o':
        o->out = optarg;
        return -1;
    case OPT_NEEDS:
        return parse_needs(optarg, o) ? -1 : wrong("--needs", "video, audio or video,audio");
    case OPT_MIN:
        return cli_parse_real(optarg, 0, 3600, &o->min_sound_s) ? -1 : wrong("--min-sound-s", "0 to 3600");
    case 'j':
        if (!cli_parse_count(optarg, 1, 1024, &n))
            return wrong("--jobs", "1 to 1024");
        o->jobs = (unsigned)n;
        return -1;
    case OPT_CPU:
        if (!cli_parse_count(optarg, 1, 86400, &n))
            return wrong("--cpu-s", "1 to 86400");
        o->cpu_s = (uint32_t)n;
        return -1;
    case OPT_MEMORY:
        if (!cli_parse_count(optarg, 64, 65536, &n))
            return wrong("--memory-mib", "64 to 65536");
        o->memory_mib = (uint32_t)n;
        return -1;
    case OPT_RESUME:
    case OPT_FRESH:
        o->fresh = c == OPT_FRESH;
        return -1;
    case OPT_JSON:
        o->json = true;
        return -1;
    case OPT_ZERO:
        o->exit_zero = true;
        return -1;
    case 'h':
        fputs(help, stdout);
        return 0;
    default:
        return 64;
    }
}

static int parse(int argc, char **argv, struct doctor_options *o)
{
    int c, status = -1;
    *o = (struct doctor_options){
        .video = true, .audio = true, .min_sound_s = 1.1, .jobs = pool_cpus(), .memory_mib = 512};
    optind = 0;
    while (status < 0 && (c = getopt_long(argc, argv, "o:j:h", options, NULL)) != -1)
        status = take_option(c, o);
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
