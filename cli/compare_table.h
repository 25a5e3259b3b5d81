/* compare_table: what `xdc compare` says to people: tables out of the JSON object that programs get. Used by
 * cmd_compare. One thread; owns nothing. */
#pragma once
#include <jansson.h>

#define COMPARE_RUNS_MAX 16 /* named A to P */

void compare_table_print(const json_t *all);
