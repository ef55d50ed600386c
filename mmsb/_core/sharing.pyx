"""The owner's side of sharing its memory with other processes: who is attached, and telling them what came and went.

Also Region, memory that came from another process.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo
from libc.string cimport memcmp

from mmsb._core.c_mmsb cimport *
from mmsb._core.c_share cimport *

from mmsb import errors

LAYOUT = MMSB_SHARED_LAYOUT
SHARED_BYTES = MMSB_SHARED_BYTES
WORDS_BYTES = MMSB_WORDS_BYTES
CLIENTS_MAX = MMSB_CLIENTS_MAX


cdef class Region:
    """Mapped memory of a descriptor that another process gave, as a buffer. Unmapped when its last user goes.

    `sealed`: ValueError unless it is memory whose size can never shrink. ValueError too when it is shorter than `size`,
    unless it `grows`. The descriptor stays the caller's.
    """

    def __init__(self, int fd, uint64_t size, *, bint sealed=True, bint grows=False):
        cdef unsigned flags = MMSB_REGION_SEALED if sealed else 0
        cdef uint8_t *base = NULL
        if grows:
            flags |= MMSB_REGION_GROWS
        cdef int status = mmsb_region_map(fd, size, flags, &base)
        if status == MMSB_NO_MEMORY:
            raise MemoryError(f"no address space for {size} bytes of shared memory")
        if status != MMSB_OK:
            raise ValueError(f"the descriptor is no memory of {size} bytes that stays that long")
        self.base = base
        self.bytes = size

    def __dealloc__(self):
        if self.base != NULL:
            mmsb_region_unmap(self.base, self.bytes)

    def __len__(self):
        return self.bytes

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("the memory of another process is read-only here")
        PyBuffer_FillInfo(buffer, self, self.base, <Py_ssize_t>self.bytes, 1, flags)


@cython.no_gc_clear  # giving slots back needs `core`
cdef class Sharing:
    """The clients of one State. All but the constructor is for inside _exclusive()."""

    def __init__(self, Core core not None):
        self.core = core
        self.words = {}
        mmsb_sharing_init(&self.sharing, &core.core.arena, core.core.shared, &mmsb_alloc_libc)

    def __dealloc__(self):
        if self.core is not None and self.core.alive:
            self.core.core.sharing = NULL
            mmsb_sharing_release(&self.sharing)

    cdef mmsb_attached *client(self, int fd):
        cdef uint32_t i
        for i in range(self.sharing.client_count):
            if self.sharing.clients[i].fd == fd:
                return &self.sharing.clients[i]
        return NULL

    def add(self, int fd, Region words not None):
        """Takes in the client of a socket. (place, number); BusyError when every place is taken."""
        if words.bytes != MMSB_WORDS_BYTES or memcmp(words.base, b"MMSBCLI1", 8) != 0:
            raise ValueError("these are not the words of a client")
        cdef int index = mmsb_sharing_add(&self.sharing, fd, <const mmsb_words *>words.base)
        if index < 0:
            raise errors.BusyError("Every place for clients is taken. Close one, or try again later.")
        self.words[fd] = words
        self.core.core.sharing = &self.sharing
        return self.sharing.clients[index].place, self.sharing.clients[index].number

    def remove(self, int fd):
        """Forgets the client of a socket, and what was kept for it."""
        mmsb_sharing_remove(&self.sharing, fd)
        self.words.pop(fd, None)
        if self.sharing.client_count == 0:
            self.core.core.sharing = NULL

    def drop(self, int fd):
        """Ends the connection of a client, which will find out."""
        cdef mmsb_attached *client = self.client(fd)
        if client != NULL:
            mmsb_sharing_drop(&self.sharing, client)

    def tell_all(self, int fd):
        """Sends a client the page memory there is. Whether it took it; else it was dropped."""
        cdef mmsb_attached *client = self.client(fd)
        return client != NULL and mmsb_sharing_tell_all(&self.sharing, client) == MMSB_OK

    def tell_log(self, int fd, uint32_t number, int log_fd, uint64_t size):
        """Sends a client one segment of the log. Whether it took it."""
        cdef mmsb_attached *client = self.client(fd)
        cdef mmsb_entry entry
        entry.kind = MMSB_REGION_LOG
        entry.number = number
        entry.bytes = size
        entry.flags = 0
        return client != NULL and mmsb_sharing_tell(&self.sharing, client, &entry, &log_fd, 1) == MMSB_OK

    def log(self, uint32_t number, int log_fd, uint64_t size):
        """Tells everybody that a segment of the log came, or went (log_fd -1)."""
        if self.sharing.client_count:
            mmsb_sharing_log(&self.sharing, number, log_fd, size)

    def end(self):
        """The State is closed, or belongs to a parent process: nothing more is told or given back."""
        self.core.core.sharing = NULL
        mmsb_sharing_release(&self.sharing)
        self.words.clear()

    @property
    def entries(self):
        """How many pieces of page memory there are now."""
        cdef mmsb_arena_stats stats
        mmsb_arena_get_stats(&self.core.core.arena, &stats)
        return stats.segments + self.core.core.arena.chunk_count

    @property
    def grown(self):
        """Messages about memory that came or went, so far."""
        return self.core.core.shared.grown

    @property
    def shared_fd(self):
        """Descriptor of the page that clients look at."""
        return self.core.shared_memory.fd

    @property
    def keep_bytes(self):
        """Bytes of freed slots that may wait for clients before these are dropped."""
        return self.sharing.kept_bytes_most

    @keep_bytes.setter
    def keep_bytes(self, uint64_t value):
        self.sharing.kept_bytes_most = value

    def stats(self):
        """Clients, freed slots that wait for them (bytes), clients dropped so far."""
        return {"clients": self.sharing.client_count, "kept_bytes": self.sharing.kept_bytes,
                "drops": self.sharing.drops}

    def clients(self):
        """{socket: facts} of the clients: number, the newest seq that each read (as it says), whether it waits."""
        cdef uint32_t i
        cdef const mmsb_attached *client
        result = {}
        for i in range(self.sharing.client_count):
            client = &self.sharing.clients[i]
            result[client.fd] = {
                "number": client.number,
                "seen_seq": client.words.seen_seq,
                "waiting": client.words.waiting != 0,
                "reading": client.words.reading != MMSB_NOT_READING,
                "dropped": bool(client.dropped),
            }
        return result
