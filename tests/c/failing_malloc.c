/* Preloaded (LD_PRELOAD) into a Python that runs mmsb: fails the Nth request for memory that mmsb's own compiled
 * modules make, by whatever door: malloc, calloc, realloc, mmap or memfd_create. Requests of the interpreter, of other
 * libraries and of other threads go through. It also counts the heap blocks that those modules hold. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { RANGES_MOST = 64 };

typedef struct range {
    uintptr_t begin, end;
} range;

static range ranges[RANGES_MOST]; /* the code of the modules that are watched */
static unsigned range_count;
static uint64_t left; /* requests that still succeed */
static uint64_t refused;
static bool armed, for_ever;
static pthread_t starved;

enum { HELD_MOST = 1 << 18, FREED = 1 };
static uintptr_t held[HELD_MOST]; /* hash table of the blocks that watched modules asked for; 0: never used */
static uint64_t held_count;
static bool held_lock;

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static void (*real_free)(void *);
static void *(*real_mmap)(void *, size_t, int, int, int, off_t);
static int (*real_memfd_create)(const char *, unsigned);

/* dlsym itself asks for a little memory before it can say where calloc is. */
static uint8_t early[4096];
static size_t early_used;

#define FIND(name) \
    if (real_##name == NULL) real_##name = (__typeof__(real_##name))dlsym(RTLD_NEXT, #name)

static bool is_watched(const void *caller) {
    uintptr_t at = (uintptr_t)caller;
    for (unsigned i = 0; i < range_count; i++)
        if (at >= ranges[i].begin && at < ranges[i].end) return true;
    return false;
}

static bool refuses(const void *caller) {
    if (!armed || !pthread_equal(starved, pthread_self()) || !is_watched(caller)) return false;
    if (left != 0) {
        left--;
        return false;
    }
    if (!for_ever) left = UINT64_MAX;
    refused++;
    errno = ENOMEM;
    return true;
}

/* Whose block it is cannot be told from who frees it: what the interpreter frees on behalf of a module looks alike. */
static void note(void *block, bool ours) {
    if (block == NULL || !ours) return;
    while (__atomic_test_and_set(&held_lock, __ATOMIC_ACQUIRE)) continue;
    uintptr_t at = (uintptr_t)block / 16;
    while (held[at % HELD_MOST] > FREED) at++;
    held[at % HELD_MOST] = (uintptr_t)block;
    held_count++;
    __atomic_clear(&held_lock, __ATOMIC_RELEASE);
}

static bool forget(void *block) {
    if (block == NULL || range_count == 0) return false;
    while (__atomic_test_and_set(&held_lock, __ATOMIC_ACQUIRE)) continue;
    uintptr_t at = (uintptr_t)block / 16;
    while (held[at % HELD_MOST] != 0 && held[at % HELD_MOST] != (uintptr_t)block) at++;
    bool found = held[at % HELD_MOST] != 0;
    if (found) {
        held[at % HELD_MOST] = FREED;
        held_count--;
    }
    __atomic_clear(&held_lock, __ATOMIC_RELEASE);
    return found;
}

void *malloc(size_t bytes) {
    const void *caller = __builtin_return_address(0);
    if (refuses(caller)) return NULL;
    FIND(malloc);
    void *block = real_malloc(bytes);
    note(block, is_watched(caller));
    return block;
}

void *calloc(size_t items, size_t bytes) {
    static bool finding;
    if (real_calloc == NULL && finding) {
        void *block = early + early_used;
        early_used += (items * bytes + 15) & ~(size_t)15;
        return early_used <= sizeof early ? block : NULL;
    }
    finding = true;
    const void *caller = __builtin_return_address(0);
    if (refuses(caller)) return NULL;
    FIND(calloc);
    void *block = real_calloc(items, bytes);
    note(block, is_watched(caller));
    return block;
}

void *realloc(void *block, size_t bytes) {
    const void *caller = __builtin_return_address(0);
    if (refuses(caller)) return NULL;
    FIND(realloc);
    bool ours = block == NULL ? is_watched(caller) : forget(block);
    void *moved = real_realloc(block, bytes);
    note(moved != NULL ? moved : block, ours);
    return moved;
}

void free(void *block) {
    if ((uint8_t *)block >= early && (uint8_t *)block < early + sizeof early) return;
    forget(block);
    FIND(free);
    real_free(block);
}

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    if (refuses(__builtin_return_address(0))) return MAP_FAILED;
    FIND(mmap);
    return real_mmap(address, bytes, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    if (refuses(__builtin_return_address(0))) return MAP_FAILED;
    FIND(mmap);
    return real_mmap(address, bytes, protection, flags, fd, offset);
}

int memfd_create(const char *name, unsigned flags) {
    if (refuses(__builtin_return_address(0))) return -1;
    FIND(memfd_create);
    return real_memfd_create(name, flags);
}

/* ---- for the test */

static int add_object(struct dl_phdr_info *info, size_t size, void *wanted) {
    (void)size;
    if (info->dlpi_name == NULL || strstr(info->dlpi_name, wanted) == NULL) return 0;
    for (int i = 0; i < info->dlpi_phnum && range_count < RANGES_MOST; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        uintptr_t begin = info->dlpi_addr + part->p_vaddr;
        ranges[range_count++] = (range){begin, begin + part->p_memsz};
    }
    return 0;
}

/* Watches every module that is loaded now and has `part` in its path. Returns how many. */
unsigned failing_watch(const char *part) {
    range_count = 0;
    dl_iterate_phdr(add_object, (void *)(uintptr_t)part);
    return range_count;
}

/* From now on request number `after` + 1 of this thread fails, and with `ever` all that follow. */
void failing_arm(uint64_t after, bool ever) {
    left = after;
    for_ever = ever;
    refused = 0;
    starved = pthread_self();
    armed = true;
}

/* Nothing fails any more. Returns how many requests did. */
uint64_t failing_disarm(void) {
    armed = false;
    return refused;
}

/* Heap blocks that the watched modules hold. */
uint64_t failing_blocks(void) { return __atomic_load_n(&held_count, __ATOMIC_RELAXED); }
