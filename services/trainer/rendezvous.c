#include "services/trainer/rendezvous.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PORT_FIRST 10000 /* below the ports that systems hand out by themselves */
#define PORTS 20000

/* A number of the environment; -1 where there is none. */
static int number(const char *(*get)(const char *), const char *name, long max, long *out, struct err *e)
{
    const char *text = get(name);
    char *end;
    *out = -1;
    if (!text || !*text)
        return 0;
    *out = strtol(text, &end, 10);
    if (*end || *out < 0 || *out > max)
        return err_set(e, XDC_ECONF, "%s in the environment: %.64s is not a number from 0 to %ld", name, text,
                       max);
    return 0;
}

/* One pair of variables; *out_rank is -1 when there are none. */
static int rank_by(const struct conf *c, const char *(*get)(const char *), const char *rank_name,
                   const char *world_name, long *out_rank, struct err *e)
{
    long world = -1;
    int rc = number(get, rank_name, UINT16_MAX, out_rank, e);
    if (rc == 0)
        rc = number(get, world_name, UINT16_MAX, &world, e);
    if (rc < 0 || *out_rank < 0)
        return rc;
    if (world != c->run.ranks)
        return err_set(e, XDC_ECONF, "%s in the environment: %ld processes, but run.ranks is %" PRId64,
                       world_name, world, c->run.ranks);
    if (*out_rank >= world)
        return err_set(e, XDC_ECONF, "%s in the environment: %ld is not below %s = %ld", rank_name, *out_rank,
                       world_name, world);
    return 0;
}

int rendezvous_first_host(const char *list, char out[CONF_STRING_MAX], struct err *e)
{
    size_t n = strcspn(list, "[,"), digits = 0;
    if (list[n] == '[')
        digits = strspn(list + n + 1, "0123456789");
    if (n + digits == 0 || n + digits >= CONF_STRING_MAX || (list[n] == '[' && digits == 0))
        return err_set(e, XDC_ECONF, "no host in Slurm's list %.200s: set run.address", list);
    memcpy(out, list, n);
    memcpy(out + n, list + n + 1, digits);
    out[n + digits] = '\0';
    return 0;
}

static int find_address(const struct conf *c, const char *(*get)(const char *), char out[CONF_STRING_MAX],
                        struct err *e)
{
    const char *given = c->run.address[0] ? c->run.address : get("MASTER_ADDR");
    const char *list = get("SLURM_STEP_NODELIST");
    if (!list || !*list)
        list = get("SLURM_JOB_NODELIST");
    if ((!given || !*given) && list && *list)
        return rendezvous_first_host(list, out, e);
    if (!given || !*given)
        given = "127.0.0.1";
    if (strlen(given) >= CONF_STRING_MAX)
        return err_set(e, XDC_ECONF, "MASTER_ADDR in the environment is too long");
    strcpy(out, given);
    return 0;
}

uint16_t rendezvous_port(uint64_t run)
{
    return (uint16_t)(PORT_FIRST + run % PORTS);
}

int rendezvous_find(const struct conf *c, bool rank_given, uint32_t rank, const char *(*get)(const char *),
                    struct rendezvous *out, struct err *e)
{
    long by_name = -1, local = -1, port = c->run.port;
    *out = (struct rendezvous){.rank = rank, .world = (uint32_t)c->run.ranks};
    if (c->run.ranks <= 1)
        return 0;
    int rc = rank_given ? 0 : rank_by(c, get, "RANK", "WORLD_SIZE", &by_name, e);
    if (rc == 0 && !rank_given && by_name < 0)
        rc = rank_by(c, get, "SLURM_PROCID", "SLURM_NTASKS", &by_name, e);
    if (by_name >= 0)
        out->rank = (uint32_t)by_name;
    if (rc == 0)
        rc = number(get, "LOCAL_RANK", UINT16_MAX, &local, e);
    if (rc == 0 && local < 0)
        rc = number(get, "SLURM_LOCALID", UINT16_MAX, &local, e);
    out->local = local < 0 ? out->rank : (uint32_t)local;
    if (rc == 0)
        rc = find_address(c, get, out->address, e);
    if (rc == 0 && port == 0)
        rc = number(get, "MASTER_PORT", UINT16_MAX, &port, e);
    if (rc == 0 && port > 0)
        out->port = (uint16_t)port;
    return rc;
}
