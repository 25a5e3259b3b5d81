/* logmel: the log-mel front end on random sound: microseconds of CPU a clip of two seconds. bench/logmel.py
 * runs it in turns with torchaudio. */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include "lib/media/logmel.h"

enum { CLIPS = 2000 };

static double cpu_s(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void)
{
    static float wave[LOGMEL_SAMPLES], out[MEDIA_AUDIO_FLOATS];
    struct logmel *l = NULL;
    struct err e = {0};
    uint32_t x = 1;
    if (logmel_create(&l, &e)) {
        fprintf(stderr, "bench_logmel: %s\n", e.msg);
        return 70;
    }
    for (int i = 0; i < LOGMEL_SAMPLES; i++) {
        x = 1664525u * x + 1013904223u;
        wave[i] = (float)(int32_t)x / 4294967296.0f;
    }
    double begin = 0;
    for (int i = -CLIPS / 10; i < CLIPS; i++) {
        begin = i == 0 ? cpu_s() : begin;
        logmel_compute(l, MEDIA_FRONTEND_LOGMEL, wave, out);
    }
    printf("{\"us\": %.2f}\n", (cpu_s() - begin) / CLIPS * 1e6);
    logmel_destroy(l);
    return 0;
}
