/* sweep: a grid of pretrainings with what each is worth downstream, as one table. sweep_spec reads what is
 * asked for, sweep_cell does it, sweep_table says what came of it. Used by cmd_sweep. Blocking; one thread.
 * The struct owns its trees. */
#pragma once
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

#define SWEEP_SEEDS_MAX 64

/* The text of a key, or NULL. */
static inline const char *sweep_text(const json_t *map, const char *key)
{
    return json_string_value(json_object_get(map, key));
}

struct sweep {
    char dir[PATH_MAX];  /* everything is kept here */
    char base[PATH_MAX]; /* the configuration that rows change */
    char title[64];      /* the preset, or "sweep" */
    uint32_t seeds[SWEEP_SEEDS_MAX], n_seeds;
    /* [{"row", "pretrain", "grid": {key: value}, "slug", "parts": [{"set": {key: value}, "video": encoder,
     * "audio": encoder}]}]: one pretraining a part and seed; of an encoder that a part does not give, null */
    json_t *cells;
    /* [{"name", "key", "eval", "figure", "target", "manifests": [path], "clips", "of": ["video", "audio"],
     * "options": [flag, value, ...]}]; key: of the files of results */
    json_t *columns;
    json_t *order; /* [row]: what is expected to come first; may be empty */
};

/* Reads a file, over the preset that it names. XDC_ECONF says the place and what is wanted. */
int sweep_read(const char *path, struct sweep *out, struct err *e) WARN_UNUSED;
/* Safe on a zeroed struct. */
void sweep_close(struct sweep *s);
/* The text of a preset, with comments; NULL when there is none of that name. */
const char *sweep_preset(const char *name);
/* "t1-methods, t2-k, ..."; static. */
const char *sweep_preset_names(void);

/* Checks the configurations of all cells; prints their names and how many steps they take. */
int sweep_check(const struct sweep *s, struct err *e) WARN_UNUSED;

struct sweep_counts {
    uint32_t done, total; /* pretrainings and evaluations */
    uint32_t failed;
    double start_s;
};
/* Pretrains and evaluates a cell with a seed; what is there already stays. What fails is said on stderr and
 * kept as <step>.failed for the table; XDC_ESTOPPED, or what keeps anything from being written. */
int sweep_cell(const struct sweep *s, const json_t *cell, uint32_t seed_index, struct sweep_counts *n,
               struct err *e) WARN_UNUSED;
/* Steps of a cell and seed. */
uint32_t sweep_cell_steps(const struct sweep *s, const json_t *cell);

/* sweep_table.c */

/* What the cells have left: docs/evaluation.md. NULL without memory. */
json_t *sweep_table(const struct sweep *s);
/* As a Markdown table, with how far the expected order holds. */
void sweep_table_print(const json_t *table, FILE *f);

/* The directory of a cell's part and seed, and of one evaluation in it. */
int sweep_part_dir(const struct sweep *s, const json_t *cell, size_t part, uint32_t seed, char out[PATH_MAX],
                   struct err *e) WARN_UNUSED;
int sweep_result_path(const struct sweep *s, const json_t *cell, const json_t *column, const char *modality,
                      size_t manifest, uint32_t seed, char out[PATH_MAX], struct err *e) WARN_UNUSED;
/* The part that gives the encoder of the modality; its name in *encoder. -1: none. */
int sweep_part_of(const json_t *cell, const char *modality, const char **encoder);
