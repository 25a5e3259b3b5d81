/* index_report: the summary of `xdc index`, as a table or as JSON. Used by cmd_index. Owns nothing; writes to
 * stdout. */
#pragma once
#include "cli/index_files.h"
#include "cli/index_forms.h"
#include "cli/index_resolve.h"
#include "cli/index_write.h"

struct index_report {
    const char *out, *form, *what; /* form NULL: neither lists nor classes by folders */
    bool update, labelled;
    const struct index_files *files;
    const struct index_rows *rows;
    const struct index_match *match;
    const struct index_summary *summary;
};

void index_report_json(const struct index_report *r);
void index_report_table(const struct index_report *r);
