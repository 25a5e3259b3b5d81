/* leftovers: what a clusterer that was killed in the midst of writing has left in a folder. Used by
 * clusterer.c, by the one that holds the lock. Blocking, briefly; owns nothing. */
#pragma once

/* Removes `<name>.<thread>.tmp`, as lib/fsutil and label_table name what they write, of threads that there
 * are no more. What cannot be removed stays. */
void leftovers_remove(const char *dir);
