/* Runs a fuzz target where there is no libFuzzer: every file that is named, or with -runs=N so many mutations of them.
 * It does not watch which code is reached, so it finds what lies near the corpus. It knows the options of libFuzzer
 * that tests/fuzz/engine.py gives, and leaves out the others. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../c/harness.h"
#include "fuzz.h"

enum { FILES_MOST = 1 << 14, BYTES_MOST = 1 << 16 };

typedef struct file {
    uint8_t *bytes;
    uint64_t size;
} file;

static file files[FILES_MOST];
static uint64_t file_count, max_len = 4096;
static const char *prefix = "";

/* The input under test, for whoever finds out that the program ends. */
static uint8_t input[BYTES_MOST];
static uint64_t input_size;
static bool under_test;

static void save_input(void) {
    if (!under_test) return;
    under_test = false;
    char path[4096];
    snprintf(path, sizeof path, "%scrash-%016lx", prefix, (unsigned long)fuzz_kernels()->crc32c(0, input, input_size));
    FILE *out = fopen(path, "wb");
    if (out != NULL && fwrite(input, 1, input_size, out) == input_size) fprintf(stderr, "input written to %s\n", path);
    if (out != NULL) fclose(out);
}

static void try_input(void) {
    under_test = true;
    LLVMFuzzerTestOneInput(input, input_size);
    under_test = false;
}

static void load(const char *path) {
    struct stat status;
    CHECK(stat(path, &status) == 0, "%s is not there", path);
    if (S_ISDIR(status.st_mode)) {
        struct dirent **names;
        int count = scandir(path, &names, NULL, alphasort);
        for (int i = 0; i < count; i++) {
            char inside[4096];
            snprintf(inside, sizeof inside, "%s/%s", path, names[i]->d_name);
            if (names[i]->d_name[0] != '.') load(inside);
            free(names[i]);
        }
        free(names);
        return;
    }
    FILE *in = fopen(path, "rb");
    CHECK(in != NULL && file_count < FILES_MOST && status.st_size <= BYTES_MOST, "%s cannot be read", path);
    file *f = &files[file_count++];
    f->bytes = malloc((size_t)status.st_size + 1);
    f->size = fread(f->bytes, 1, (size_t)status.st_size, in);
    fclose(in);
}

static uint64_t below(uint64_t n) { return n == 0 ? 0 : random_u64() % n; }

static void insert(uint64_t at, const uint8_t *bytes, uint64_t count) {
    count = mmsb_min_u64(count, max_len - mmsb_min_u64(max_len, input_size));
    memmove(input + at + count, input + at, input_size - at);
    memmove(input + at, bytes, count);
    input_size += count;
}

static void mutate(void) {
    static const uint8_t telling[] = {0, 1, 2, 7, 8, 16, 17, 127, 128, 129, 254, 255};
    uint8_t fresh[16];
    for (unsigned i = 0; i < sizeof fresh; i++) fresh[i] = (uint8_t)random_u64();
    uint64_t at = below(input_size), span = 1 + below(below(16) + 1);
    const file *from = &files[below(file_count)];
    uint64_t part = below(from->size);
    switch (random_u64() % 7) {
        case 0:
            if (input_size != 0) input[at] ^= (uint8_t)(1 << random_u64() % 8);
            break;
        case 1:
            if (input_size != 0) input[at] = telling[random_u64() % sizeof telling];
            break;
        case 2:
            if (input_size != 0) input[at] = fresh[0];
            break;
        case 3:
            span = mmsb_min_u64(span, input_size - at);
            memmove(input + at, input + at + span, input_size - at - span);
            input_size -= span;
            break;
        case 4:
            insert(at, fresh, span);
            break;
        case 5: /* a part of another file goes in */
            insert(at, from->bytes + part, mmsb_min_u64(1 + below(64), from->size - part));
            break;
        default: /* the rest of another file replaces the rest of this */
            input_size = at;
            insert(at, from->bytes + part, from->size - part);
    }
}

#if defined(__SANITIZE_ADDRESS__)
void __sanitizer_set_death_callback(void (*callback)(void));
#endif

int main(int argc, char **argv) {
    uint64_t runs = 0, done = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-runs=", 6) == 0) runs = strtoull(argv[i] + 6, NULL, 10);
        if (strncmp(argv[i], "-seed=", 6) == 0) seed ^= strtoull(argv[i] + 6, NULL, 10) * 0x9e3779b97f4a7c15u;
        if (strncmp(argv[i], "-max_len=", 9) == 0) max_len = strtoull(argv[i] + 9, NULL, 10);
        if (strncmp(argv[i], "-artifact_prefix=", 17) == 0) prefix = argv[i] + 17;
        if (argv[i][0] != '-') load(argv[i]);
    }
    CHECK(file_count != 0 && max_len < BYTES_MOST / 2, "name a file to begin with");
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_death_callback(save_input);
#endif
    atexit(save_input);
    for (uint64_t i = 0; i < file_count; i++, done++) {
        input_size = files[i].size;
        memcpy(input, files[i].bytes, input_size);
        try_input();
    }
    for (; done < runs; done++) {
        const file *from = &files[below(file_count)];
        input_size = mmsb_min_u64(from->size, max_len);
        memcpy(input, from->bytes, input_size);
        for (uint64_t n = 1 + below(5); n > 0; n--) mutate();
        try_input();
        if (done % 65536 == 0) fprintf(stderr, "#%lu\n", (unsigned long)done);
    }
    fprintf(stderr, "stat::number_of_executed_units: %lu\n", (unsigned long)done);
    return 0;
}
