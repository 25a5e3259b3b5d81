/* progress: rate, time left and the printed line. Time is moved by moving the start into the past. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <fcntl.h>
#include <unistd.h>

#include "lib/progress.h"

/* Lets `s` seconds pass. */
static void pass(struct progress *p, double s)
{
    p->start_s -= s;
    p->rate_at_s -= s;
    p->last_print_s -= s;
}

static void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%g is not within %g of %g", got, tolerance, want);
}

/* The clock goes forward in seconds. */
static void clock_runs(void **state)
{
    (void)state;
    double a = progress_now_s();
    usleep(20000);
    assert_true(progress_now_s() - a >= 0.02 && progress_now_s() - a < 5);
}

/* A steady rate is found at once and gives the time left. */
static void steady_rate(void **state)
{
    (void)state;
    struct progress p;
    progress_init(&p, "extract", 10000);
    assert_true(progress_left_s(&p) < 0);
    for (uint64_t done = 1000; done <= 5000; done += 1000) {
        pass(&p, 10);
        progress_set(&p, done);
        assert_near(progress_rate(&p), 100, 10);
    }
    assert_near(progress_left_s(&p), 50, 5);
    progress_set(&p, 10000);
    assert_near(progress_left_s(&p), 0, 0);
}

/* A new rate is taken over within some 15 seconds, and not at once. */
static void rate_follows(void **state)
{
    (void)state;
    struct progress p;
    uint64_t done = 0;
    progress_init(&p, "decode", 0);
    for (int i = 0; i < 30; i++) {
        pass(&p, 1);
        progress_set(&p, done += 100);
    }
    pass(&p, 1);
    progress_set(&p, done += 10);
    assert_true(progress_rate(&p) > 60 && progress_rate(&p) < 99);
    for (int i = 0; i < 20; i++) {
        pass(&p, 1);
        progress_set(&p, done += 10);
    }
    assert_near(progress_rate(&p), 10, 3);
}

/* Work that stands still loses its rate although nobody calls progress_set; one that goes backwards never has
 * a negative one. */
static void stalled(void **state)
{
    (void)state;
    struct progress p;
    progress_init(&p, "decode", 1000);
    pass(&p, 10);
    progress_set(&p, 500);
    assert_near(progress_rate(&p), 50, 5);
    pass(&p, 60);
    assert_true(progress_rate(&p) < 10);
    assert_true(progress_left_s(&p) > 50);
    progress_set(&p, 100);
    assert_true(progress_rate(&p) >= 0);
}

/* Many calls in one window count once: the rate is the same however often progress is reported. */
static void often_reported(void **state)
{
    (void)state;
    struct progress p;
    progress_init(&p, "train", 100000);
    for (uint64_t i = 1; i <= 2000; i++) {
        pass(&p, 0.01);
        progress_set(&p, i);
    }
    assert_near(progress_rate(&p), 100, 10);
}

/* Without a total there is no time left. */
static void unknown_total(void **state)
{
    (void)state;
    struct progress p;
    progress_init(&p, "index", 0);
    pass(&p, 20);
    progress_set(&p, 100);
    assert_near(progress_rate(&p), 5, 0.5);
    assert_true(progress_left_s(&p) < 0);
}

static size_t read_all(FILE *f, char *out, size_t size)
{
    rewind(f);
    size_t n = fread(out, 1, size - 1, f);
    out[n] = '\0';
    return n;
}

/* In a file: a line every ten seconds, whole lines, and a last one with the time it all took. */
static void lines_in_a_file(void **state)
{
    (void)state;
    struct progress p;
    char text[1024];
    double rate, left_s;
    int end = 0;
    FILE *f = tmpfile();
    progress_init(&p, "index", 4000);
    pass(&p, 9);
    progress_set(&p, 900);
    progress_print(&p, f, false);
    assert_int_equal(read_all(f, text, sizeof text), 0);
    pass(&p, 1.1);
    progress_set(&p, 1010);
    progress_print(&p, f, false);
    progress_print(&p, f, false);
    read_all(f, text, sizeof text);
    assert_int_equal(sscanf(text, "index: 1010/4000 (25 %%), %lf/s, %lf s left\n%n", &rate, &left_s, &end),
                     2);
    assert_int_equal(end, strlen(text));
    assert_near(rate, 100, 10);
    assert_near(left_s, 30, 4);
    pass(&p, 3590);
    progress_set(&p, 4000);
    progress_print(&p, f, true);
    read_all(f, text, sizeof text);
    assert_string_equal(strchr(text, '\n') + 1, "index: 4000/4000 (100 %), 1.11/s, 1 h 00 min in all\n");
    fclose(f);
}

/* Spans are printed in two units at most. */
static void spans(void **state)
{
    (void)state;
    static const struct {
        double s;
        const char *says;
    } cases[] = {
        {0, " 0 s in"},           {59, " 59 s in"},
        {60, " 1 min 00 s in"},   {3599, " 59 min 59 s in"},
        {7260, " 2 h 01 min in"}, {90000, " 1 d 01 h in"},
        {1e12, " 365 d 00 h in"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct progress p;
        char text[256];
        FILE *f = tmpfile();
        progress_init(&p, "x", 0);
        pass(&p, cases[i].s);
        progress_print(&p, f, true);
        read_all(f, text, sizeof text);
        if (!strstr(text, cases[i].says))
            fail_msg("\"%s\" does not say \"%s\"", text, cases[i].says);
        fclose(f);
    }
}

/* On a terminal: one line rewritten in place, at most five times a second, cut to the width, ended by the
 * last call. */
static void line_on_a_terminal(void **state)
{
    (void)state;
    struct progress p;
    char text[512], name[64];
    const struct winsize narrow = {.ws_row = 24, .ws_col = 20};
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(master >= 0);
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    assert_int_equal(ptsname_r(master, name, sizeof name), 0);
    int slave = open(name, O_RDWR | O_NOCTTY);
    assert_int_equal(ioctl(slave, TIOCSWINSZ, &narrow), 0);
    FILE *f = fdopen(slave, "w");

    progress_init(&p, "a name of some length", 10);
    p.last_print_s += 5; /* printed just now, however slow this machine is */
    progress_print(&p, f, false);
    pass(&p, 5.3);
    progress_print(&p, f, false);
    p.last_print_s += 5;
    progress_print(&p, f, false);
    progress_print(&p, f, true);
    size_t size = 0;
    do {
        ssize_t n = read(master, text + size, sizeof text - 1 - size);
        assert_true(n > 0);
        size += (size_t)n;
    } while (text[size - 1] != '\n');
    text[size] = '\0';
    /* The terminal turns the newline into CR LF. */
    assert_string_equal(text, "\ra name of some leng\033[K\ra name of some leng\033[K\r\n");
    fclose(f);
    close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clock_runs),         cmocka_unit_test(steady_rate),
        cmocka_unit_test(rate_follows),       cmocka_unit_test(stalled),
        cmocka_unit_test(often_reported),     cmocka_unit_test(unknown_total),
        cmocka_unit_test(lines_in_a_file),    cmocka_unit_test(spans),
        cmocka_unit_test(line_on_a_terminal),
    };
    return cmocka_run_group_tests_name("progress", tests, NULL, NULL);
}
