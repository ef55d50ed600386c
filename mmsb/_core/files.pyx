"""Files and shareable memory, through the one C table of operations. Errors are OSError with errno."""

import errno
import mmap
import os

cimport cython
from libc.string cimport memcpy
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from mmsb._core.c_mmsb cimport *
from mmsb._core.errors cimport raise_status


RECORDED = {
    MMSB_IO_OPEN: "open", MMSB_IO_CLOSE: "close", MMSB_IO_PWRITE: "pwrite", MMSB_IO_APPEND: "store",
    MMSB_IO_FDATASYNC: "fdatasync", MMSB_IO_FSYNC: "fsync", MMSB_IO_FALLOCATE: "fallocate",
    MMSB_IO_TRUNCATE: "truncate", MMSB_IO_RENAME: "rename", MMSB_IO_UNLINK: "unlink", MMSB_IO_MKDIR: "mkdir",
}
MAP_NORESERVE = 0x4000  # mmap has it from Python 3.13 on
PIECE_BYTES = 1 << 26


cdef int64_t checked(int64_t result, object path) except -1:
    if result < 0:
        raise OSError(-result, os.strerror(-result), path)
    return result


cdef bytes path_bytes(object path):
    """A path for C. ValueError for one with a zero byte, which C would take for the path's end."""
    encoded = os.fsencode(path)
    if 0 in encoded:
        raise ValueError(f"The path {path!r} has a zero byte in it. Check the path.")
    return encoded


cdef class Files:
    """The operating system's files. For tests: with `faulty` they can be armed to lie (see arm()), with `recorded` they
    write down what was done (see operations()).
    """

    def __cinit__(self, bint faulty=False, bint recorded=False):
        if faulty and recorded:
            raise ValueError("files are faulty or recorded, not both")
        self.faulty = faulty
        self.recorded = recorded
        self.table = &mmsb_io_posix
        if recorded:
            mmsb_io_record_init(&self.record, &mmsb_io_posix)
            self.table = &self.record.io
        if faulty:
            mmsb_io_fault_init(&self.fault, &mmsb_io_posix)
            self.table = &self.fault.io

    def arm(self, str kind, nth, str effect="fail", error=5, forever=False):
        """The nth operation of `kind` ('any', 'pwrite', 'fdatasync', ...) from now on fails with errno `error`
        ('fail'), puts half its bytes and fails ('tear') or kills the process ('kill'). nth 0 disarms."""
        cdef int number = mmsb_io_kind_of(kind.encode())
        effects = {"fail": MMSB_FAULT_FAIL, "tear": MMSB_FAULT_TEAR, "kill": MMSB_FAULT_KILL}
        if number < 0 or effect not in effects or not self.faulty:
            raise ValueError(f"cannot arm {kind!r} with {effect!r}")
        mmsb_io_fault_arm(&self.fault, <mmsb_io_kind>number, nth, <mmsb_fault_effect><int>effects[effect], error,
                          forever)

    def count(self, str kind="any"):
        """Operations of a kind so far; of files that are recorded, of all kinds."""
        if self.recorded:
            return self.record.count
        return mmsb_io_fault_count(&self.fault, <mmsb_io_kind>mmsb_io_kind_of(kind.encode()))

    def __dealloc__(self):
        if self.recorded:
            mmsb_io_record_release(&self.record)

    def operations(self):
        """What was done so far, in order, as (kind, path, at, what, begun): "open" (`at`: its flags) and "close",
        "pwrite" and "store" (into a mapping) of the bytes `what`, "fallocate" of `what` bytes from `at` on, "truncate"
        to `at` bytes, "rename" to `what`, "unlink", "mkdir"; and "fdatasync" and "fsync", which cover the first `begun`
        entries of this list. A file that is renamed while it is open goes on under its new name; what is done to one
        that has no name any more has the path None. Not while another thread uses the files.
        """
        if self.record.lost:
            raise MemoryError()
        cdef uint64_t at = 0
        cdef mmsb_io_operation one
        cdef char *data = <char *>self.record.written.data
        found, names = [], {}
        while at < self.record.written.size:
            memcpy(&one, data + at, sizeof(one))
            at += sizeof(one)
            kind, path, what = RECORDED[one.kind], names.get(one.fd), None
            if kind == "fallocate":
                what = one.bytes[0]
            else:
                what = data[at : at + one.bytes[0]]
                at += one.bytes[0]
            if kind == "open":
                path = names[one.fd] = os.fsdecode(what)
            elif one.fd < 0:
                path, what = os.fsdecode(what), os.fsdecode(data[at : at + one.bytes[1]])
                at += one.bytes[1]
                if kind in ("rename", "unlink"):
                    for fd in [fd for fd in names if names[fd] in (path, what)]:
                        names[fd] = what if names[fd] == path and kind == "rename" else None
            found.append((kind, path, one.at, what, one.begun))
            if kind == "close":
                names.pop(one.fd, None)
        return found

    cdef bint is_shared(self, path):
        return self.shared is not None and os.fsdecode(path).startswith(self.shared)

    def open(self, path, int flags, int mode=0o600):
        """A descriptor (O_CLOEXEC, O_NOFOLLOW and O_NONBLOCK added). A file that it creates has `mode` whatever the
        umask, and what its group may read in the directory `shared`.
        """
        if flags & os.O_CREAT and self.is_shared(path):
            mode |= 0o040
        return <int>checked(self.table.open(self.table.context, path_bytes(path), flags, mode), path)

    def close(self, int fd):
        checked(self.table.close(self.table.context, fd), None)

    def pread(self, int fd, uint64_t count, uint64_t offset):
        """Up to `count` bytes from `offset` (fewer only at the end of the file)."""
        cdef bytes data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>count)
        cdef void *to = PyBytes_AS_STRING(data)
        cdef int64_t result
        with nogil:
            result = self.table.pread(self.table.context, fd, to, count, offset)
        checked(result, None)
        return data if <uint64_t>result == count else data[:result]

    def pread_sparse(self, int fd, uint64_t count):
        """The file's first `count` bytes, and where the last of them that are no hole end. Holes take no memory."""
        cdef int64_t result
        cdef uint8_t[::1] view
        cdef uint64_t at
        memory = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        view = memory
        end = 0
        for start, end in self.extents(fd, count):
            for at in range(start, end, PIECE_BYTES):
                result = self.table.pread(self.table.context, fd, &view[at], min(PIECE_BYTES, end - at), at)
                checked(result, None)
        return memory, end

    def extents(self, int fd, uint64_t count):
        """(start, end) of what is no hole in the file's first `count` bytes, ascending."""
        at = 0
        while at < count:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            at = os.lseek(fd, start, os.SEEK_HOLE)
            if start < count:
                yield start, min(at, count)

    def has_holes(self, int fd, uint64_t count):
        """Whether fewer than `count` bytes of disk are behind the file."""
        return os.fstat(fd).st_blocks * 512 < count

    def pwrite(self, int fd, data, uint64_t offset):
        """Writes all of `data` (bytes-like) at `offset`."""
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        cdef int64_t result = 0
        if view.shape[0]:
            with nogil:
                result = self.table.pwrite(self.table.context, fd, &view[0], view.shape[0], offset)
        checked(result, None)

    def fdatasync(self, int fd):
        cdef int64_t result
        with nogil:
            result = self.table.fdatasync(self.table.context, fd)
        checked(result, None)

    def sync_directory(self, path):
        """Makes the names in a directory durable."""
        cdef int64_t result
        cdef int fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with nogil:
                result = self.table.fsync(self.table.context, fd)
            checked(result, path)
        finally:
            self.close(fd)

    def fallocate(self, int fd, uint64_t count):
        """Reserves and sizes the file to `count` bytes."""
        cdef int64_t result
        with nogil:
            result = self.table.fallocate(self.table.context, fd, 0, count)
        checked(result, None)

    def rename(self, source, to):
        checked(self.table.rename(self.table.context, path_bytes(source), path_bytes(to)), source)

    def unlink(self, path):
        checked(self.table.unlink(self.table.context, path_bytes(path)), path)

    def mkdir(self, path):
        """A directory with mode 0700 whatever the umask, or 2750 in the directory `shared`."""
        mode = 0o2750 if self.is_shared(path) else 0o700
        checked(self.table.mkdir(self.table.context, path_bytes(path), mode), path)

    def give(self, path, unsigned group, unsigned mode):
        """Gives a file or directory to a group of users, with a mode. Links and sockets stay as they are."""
        checked(self.table.give(self.table.context, path_bytes(path), group, mode), path)

    def size(self, int fd):
        return checked(self.table.stat_size(self.table.context, fd), None)

    def filesystem(self, int fd):
        """f_type of statfs(2)."""
        return checked(self.table.filesystem(self.table.context, fd), None)

    def lock(self, int fd):
        """Locks the file for this descriptor. BlockingIOError when another holds it."""
        cdef int64_t result = self.table.lock(self.table.context, fd)
        if -result in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError(-result, os.strerror(-result))
        checked(result, None)

    def map(self, int fd, uint64_t count, bint writable):
        """A Mapping of the file's first `count` bytes, shared."""
        cdef Mapping mapping = Mapping.__new__(Mapping)
        checked(self.table.map(self.table.context, fd, 0, count, writable, &mapping.base), None)
        mapping.files = self
        mapping.bytes = count
        mapping.writable = writable
        return mapping

    def read_file(self, path, limit):
        """The whole file. OSError EOVERFLOW when it has more than `limit` bytes."""
        cdef int fd = self.open(path, os.O_RDONLY)
        try:
            size = self.size(fd)
            if size > limit:
                raise OSError(errno.EOVERFLOW, f"it has {size} bytes, more than the {limit} that make sense", path)
            return self.pread(fd, size, 0)
        finally:
            self.close(fd)

    def read_start(self, path, count):
        """The first `count` bytes of a file; fewer where it ends before."""
        cdef int fd = self.open(path, os.O_RDONLY)
        try:
            return self.pread(fd, count, 0)
        finally:
            self.close(fd)

    def write_file(self, path, data, durable=True):
        """Writes a file so that it is there whole or not at all: aside, synced, renamed, directory synced."""
        aside = os.fspath(path) + ".new"
        cdef int fd, flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            fd = self.open(aside, flags)
        except FileExistsError:  # a crash left it; or it is somebody else's, who is not to read what we write
            self.unlink(aside)
            fd = self.open(aside, flags)
        try:
            try:
                self.pwrite(fd, data, 0)
                if durable:
                    self.fdatasync(fd)
            finally:
                self.close(fd)
            self.rename(aside, path)
        except OSError:
            try:
                self.unlink(aside)  # on a full disk it holds the last of the room
            except OSError:
                pass
            raise
        if durable:
            self.sync_directory(os.path.dirname(os.fspath(path)) or ".")


@cython.no_gc_clear  # unmapping needs `files`
cdef class Mapping:
    """Part of a file in memory, as a buffer. Unmapped when the last user of it goes."""

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.base, <Py_ssize_t>self.bytes, not self.writable, flags)

    def __dealloc__(self):
        if self.base != NULL:
            self.files.table.unmap(self.files.table.context, self.base, self.bytes)

    @property
    def address(self):
        """Where it begins, as a number."""
        return <size_t>self.base

    def protect(self):
        """Makes it read-only, in a forked child: the file belongs to the parent's State."""
        cdef mmsb_memory memory
        memory.base = self.base
        memory.bytes = self.bytes
        if mmsb_memory_protect(&memory) != MMSB_OK:
            raise MemoryError()


cdef class Memory:
    """Zeroed shareable memory (a sealed memfd) of `size` bytes, a multiple of 4096, as a writable buffer."""

    def __init__(self, size):
        cdef int status = mmsb_memory_create(&self.memory, size, size >= 1 << 21)
        if status != MMSB_OK:
            raise_status(status)

    def __dealloc__(self):
        if self.memory.base != NULL:
            mmsb_memory_release(&self.memory)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.memory.base, <Py_ssize_t>self.memory.bytes, 0, flags)

    @property
    def address(self):
        """Where it begins, as a number."""
        return <size_t>self.memory.base

    def protect(self):
        """Makes it read-only, in a forked child: the memory belongs to the parent's State."""
        if mmsb_memory_protect(&self.memory) != MMSB_OK:
            raise MemoryError()

    def forget_fd(self):
        """Closes the descriptor; the memory stays."""
        if self.memory.fd >= 0:
            os.close(self.memory.fd)
            self.memory.fd = -1

    @property
    def fd(self):
        """Its descriptor, to hand over to other processes."""
        return self.memory.fd
