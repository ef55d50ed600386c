/* Writes gcov's counters: for processes that end by _exit(), where nobody else would. */
void __gcov_dump(void);
void mmsb_write_counters(void);

void mmsb_write_counters(void) { __gcov_dump(); }
