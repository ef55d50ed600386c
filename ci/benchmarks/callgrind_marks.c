/* Begins and ends counting under callgrind, for operations.py: the requests are instructions that only C can make.
 * Counting is never off, or numbers of calls would go on from before. */
#include <valgrind/callgrind.h>

void begin(void) { CALLGRIND_DUMP_STATS_AT("between"); /* and zeroes the counts */ }

void end(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
