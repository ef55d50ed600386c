#define _GNU_SOURCE
#include "region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"

int mmsb_region_map(int fd, uint64_t bytes, unsigned flags, uint8_t **base) {
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return MMSB_BAD_SIZE;
    if (bytes == 0 || bytes >> 62 != 0) return MMSB_BAD_SIZE;
    if (!(flags & MMSB_REGION_GROWS) && bytes > (uint64_t)status.st_size) return MMSB_BAD_SIZE;
    if (flags & MMSB_REGION_SEALED) {
        int seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0 || !(seals & F_SEAL_SHRINK)) return MMSB_BAD_SIZE;
    }
    uint8_t *address = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) return MMSB_NO_MEMORY;
    *base = address;
    return MMSB_OK;
}

void mmsb_region_unmap(uint8_t *base, uint64_t bytes) { munmap(base, bytes); }
