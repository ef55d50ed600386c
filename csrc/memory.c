#define _GNU_SOURCE
#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* Maps `fd` at a multiple of 2 MiB: only there can the kernel back it with huge pages. Address space that is one huge
 * page longer is reserved, and what sticks out on both sides is given back. */
static uint8_t *map_aligned(int fd, uint64_t bytes) {
    uint64_t reserved = bytes + MMSB_MEMORY_HUGE_BYTES;
    uint8_t *start = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return MAP_FAILED;
    uint64_t before = mmsb_align_up((uint64_t)(uintptr_t)start, MMSB_MEMORY_HUGE_BYTES) - (uint64_t)(uintptr_t)start;
    uint8_t *base = mmap(start + before, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (base == MAP_FAILED) {
        munmap(start, reserved);
        return MAP_FAILED;
    }
    if (before != 0) munmap(start, before);
    uint64_t after = reserved - before - bytes;
    if (after != 0) munmap(base + bytes, after);
    return base;
}

int mmsb_memory_create(mmsb_memory *memory, uint64_t bytes, bool huge) {
    int fd = memfd_create("mmsb", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return MMSB_NO_MEMORY;
    uint8_t *base = MAP_FAILED;
    if (ftruncate(fd, (off_t)bytes) == 0)
        base = huge ? map_aligned(fd, bytes) : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        close(fd);
        return MMSB_NO_MEMORY;
    }
    if (huge) (void)madvise(base, bytes, MADV_HUGEPAGE);
    /* Sealed only now: the mapping just made stays the one writable mapping there will ever be. */
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE) != 0) {
        munmap(base, bytes);
        close(fd);
        return MMSB_NO_MEMORY;
    }
    *memory = (mmsb_memory){.base = base, .bytes = bytes, .fd = fd};
    return MMSB_OK;
}

void mmsb_memory_release(mmsb_memory *memory) {
    if (memory->base == NULL) return;
    munmap(memory->base, memory->bytes);
    close(memory->fd);
    *memory = (mmsb_memory){.fd = -1};
}

uint64_t mmsb_memory_resident(const mmsb_memory *memory) {
    struct stat status;
    if (memory->base == NULL || fstat(memory->fd, &status) != 0) return 0;
    return (uint64_t)status.st_blocks * 512;
}

int mmsb_memory_protect(const mmsb_memory *memory) {
    if (memory->base == NULL) return MMSB_OK;
    return mprotect(memory->base, memory->bytes, PROT_READ) == 0 ? MMSB_OK : MMSB_NO_MEMORY;
}
