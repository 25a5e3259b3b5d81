/* yaml_tree: YAML text as a tree of jansson's objects, arrays and strings: every scalar is text, as written.
 * Used by sweep. Pure; the tree is the caller's. Aliases, tags of other types, keys given twice, more than
 * one document and nesting beyond 16 levels are refused: XDC_ECONF with "<name>:<line>:<column>: ...". */
#pragma once
#include <jansson.h>
#include "lib/err.h"

int yaml_tree(const char *text, size_t size, const char *name, json_t **out, struct err *e) WARN_UNUSED;
