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
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0) {
        munmap(base, bytes);
        close(fd);
        return MMSB_NO_MEMORY;
    }
    *memory = (mmsb_memory){.base = base, .bytes = bytes, .fd = fd};
    return MMSB_OK;
}

int mmsb_memory_create_private(mmsb_memory *memory, uint64_t bytes, bool huge) {
    uint8_t *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return MMSB_NO_MEMORY;
    if (huge) (void)madvise(base, bytes, MADV_HUGEPAGE);
    *memory = (mmsb_memory){.base = base, .bytes = bytes, .fd = -1};
    return MMSB_OK;
}

int mmsb_memory_create_writable(mmsb_memory *memory, uint64_t bytes) {
    int fd = memfd_create("mmsb", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return MMSB_NO_MEMORY;
    /* A page that cannot be had must be missed here, and not at the first touch, which would end the process. */
    uint8_t *base = MAP_FAILED;
    if (fallocate(fd, 0, 0, (off_t)bytes) == 0)
        base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (base == MAP_FAILED || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        if (base != MAP_FAILED) munmap(base, bytes);
        close(fd);
        return MMSB_NO_MEMORY;
    }
    *memory = (mmsb_memory){.base = base, .bytes = bytes, .fd = fd};
    return MMSB_OK;
}

int mmsb_memory_map(mmsb_memory *memory, int fd, bool writable) {
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(fd, &status) != 0 || status.st_size <= 0)
        return MMSB_BAD_HEADER;
    uint64_t bytes = (uint64_t)status.st_size;
    uint8_t *base = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) return MMSB_NO_MEMORY;
    *memory = (mmsb_memory){.base = base, .bytes = bytes, .fd = fd};
    return MMSB_OK;
}

void mmsb_memory_unmap(mmsb_memory *memory) {
    munmap(memory->base, memory->bytes);
    *memory = (mmsb_memory){.fd = -1};
}

void mmsb_memory_release(mmsb_memory *memory) {
    if (memory->base == NULL) return;
    int fd = memory->fd;
    mmsb_memory_unmap(memory);
    if (fd >= 0) close(fd);
}

uint64_t mmsb_memory_resident(const mmsb_memory *memory) {
    struct stat status;
    if (memory->base == NULL || fstat(memory->fd, &status) != 0) return 0;
    return (uint64_t)status.st_blocks * 512;
}

uint64_t mmsb_memory_touched(const mmsb_memory *memory, uint64_t offset) {
    if (memory->fd < 0) return offset;
    off_t touched = lseek(memory->fd, (off_t)offset, SEEK_DATA);
    return touched < 0 ? memory->bytes : mmsb_max_u64(offset, (uint64_t)touched);
}

int mmsb_memory_protect(const mmsb_memory *memory) {
    if (memory->base == NULL) return MMSB_OK;
    return mprotect(memory->base, memory->bytes, PROT_READ) == 0 ? MMSB_OK : MMSB_NO_MEMORY;
}
