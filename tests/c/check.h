/* CHECK: ends the program with status 1 and a sentence when a condition does not hold. */
#ifndef MMSB_TEST_CHECK_H
#define MMSB_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition, ...)                                               \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__);                                   \
            fprintf(stderr, "\n");                                          \
            exit(1);                                                        \
        }                                                                   \
    } while (0)

#endif
