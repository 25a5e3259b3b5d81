/* rendezvous: who this process is and where the ranks meet, by every way in which launchers say so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "services/trainer/rendezvous.h"

static const char *const (*environment)[2];

static const char *get(const char *name)
{
    for (size_t i = 0; environment[i][0]; i++)
        if (strcmp(environment[i][0], name) == 0)
            return environment[i][1];
    return NULL;
}

static const struct {
    int64_t ranks, port;
    const char *address;
    bool given;
    uint32_t rank;
    const char *const env[6][2];
    int rc;
    struct rendezvous out;  /* where rc is 0 */
    const char *const says; /* else */
} cases[] = {
    /* alone nothing is asked */
    {1, 0, "", false, 0, {{"RANK", "7"}, {"WORLD_SIZE", "9"}}, 0, {0, 1, "", 0, 0}, NULL},
    {2, 0, "", true, 1, {{0}}, 0, {1, 2, "127.0.0.1", 0, 1}, NULL},
    {2,
     0,
     "",
     true,
     1,
     {{"RANK", "0"}, {"WORLD_SIZE", "4"}, {"MASTER_PORT", "29500"}},
     0,
     {1, 2, "127.0.0.1", 29500, 1},
     NULL},
    {4,
     0,
     "",
     false,
     0,
     {{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "10.0.0.1"}, {"MASTER_PORT", "29500"}},
     0,
     {3, 4, "10.0.0.1", 29500, 3},
     NULL},
    /* the configuration goes before the environment */
    {4,
     1234,
     "head",
     false,
     0,
     {{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "10.0.0.1"}, {"MASTER_PORT", "29500"}},
     0,
     {3, 4, "head", 1234, 3},
     NULL},
    {8,
     0,
     "",
     false,
     0,
     {{"SLURM_PROCID", "5"},
      {"SLURM_NTASKS", "8"},
      {"SLURM_LOCALID", "1"},
      {"SLURM_JOB_NODELIST", "gpu[007-009]"}},
     0,
     {5, 8, "gpu007", 0, 1},
     NULL},
    {8,
     0,
     "",
     false,
     0,
     {{"SLURM_PROCID", "5"},
      {"SLURM_NTASKS", "8"},
      {"SLURM_JOB_NODELIST", "a1,a2"},
      {"SLURM_STEP_NODELIST", "a2"}},
     0,
     {5, 8, "a2", 0, 5},
     NULL},
    {2,
     0,
     "",
     false,
     0,
     {{"RANK", "0"}, {"WORLD_SIZE", "4"}},
     XDC_ECONF,
     {0},
     "4 processes, but run.ranks is 2"},
    {2,
     0,
     "",
     false,
     0,
     {{"RANK", "2"}, {"WORLD_SIZE", "2"}},
     XDC_ECONF,
     {0},
     "2 is not below WORLD_SIZE = 2"},
    {2,
     0,
     "",
     false,
     0,
     {{"RANK", "one"}, {"WORLD_SIZE", "2"}},
     XDC_ECONF,
     {0},
     "RANK in the environment: one"},
    {2, 0, "", true, 0, {{"MASTER_PORT", "70000"}}, XDC_ECONF, {0}, "MASTER_PORT in the environment: 70000"},
};

static void every_launcher(void **state)
{
    (void)state;
    static struct conf c;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rendezvous out;
        struct err e = {0};
        c.run.ranks = cases[i].ranks;
        c.run.port = cases[i].port;
        strcpy(c.run.address, cases[i].address);
        environment = cases[i].env;
        int rc = rendezvous_find(&c, cases[i].given, cases[i].rank, get, &out, &e);
        if (rc != cases[i].rc)
            fail_msg("case %zu: %d %s", i, rc, e.msg);
        if (rc < 0) {
            if (!strstr(e.msg, cases[i].says))
                fail_msg("case %zu: %s", i, e.msg);
            continue;
        }
        assert_int_equal(out.rank, cases[i].out.rank);
        assert_int_equal(out.world, cases[i].out.world);
        assert_int_equal(out.port, cases[i].out.port);
        assert_int_equal(out.local, cases[i].out.local);
        assert_string_equal(out.address, cases[i].out.address);
    }
}

static void first_hosts(void **state)
{
    (void)state;
    static const char *const lists[][2] = {
        {"one", "one"}, {"one,two", "one"}, {"n[3]", "n3"}, {"n[003-7],m", "n003"}, {"n-2-[10,12]", "n-2-10"},
        {"", NULL},     {"[1-2]", "1"},     {"n[x]", NULL}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        char out[CONF_STRING_MAX];
        struct err e;
        int rc = rendezvous_first_host(lists[i][0], out, &e);
        assert_int_equal(rc, lists[i][1] ? 0 : XDC_ECONF);
        if (rc == 0)
            assert_string_equal(out, lists[i][1]);
    }
}

/* Any run has a port that no system hands out by itself. */
static void ports(void **state)
{
    (void)state;
    for (uint64_t run = 0; run < 100000; run++)
        assert_true(rendezvous_port(run * 0x9e3779b97f4a7c15u) >= 10000 &&
                    rendezvous_port(run * 0x9e3779b97f4a7c15u) < 30000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_launcher),
        cmocka_unit_test(first_hosts),
        cmocka_unit_test(ports),
    };
    return cmocka_run_group_tests_name("rendezvous", tests, NULL, NULL);
}
