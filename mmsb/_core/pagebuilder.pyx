"""PageBuilder: one page's bytes, made from what it was and its changes in the log."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy, memset

from mmsb._core.c_index cimport *
from mmsb._core.c_mmsb cimport *
from mmsb._core.index cimport Bytes, Nodes

cdef mmsb_kernels KERNELS
cdef uint32_t FEATURES = mmsb_cpu_detect()
mmsb_cpu_disable(&FEATURES, mmsb_cpu_environment(), NULL)
mmsb_kernels_init(&KERNELS, FEATURES)


cdef class PageBuilder:
    """Rebuilds one page's bytes: begin with what it was, apply the changes of one segment after the other."""

    cdef mmsb_index_page page
    cdef readonly uint64_t page_id

    def __cinit__(self, uint64_t page_id):
        self.page_id = page_id

    def __dealloc__(self):
        mmsb_buffer_release(&self.page.bytes, &mmsb_alloc_libc)

    def begin(self, uint64_t size, content=None):
        """`size` bytes: those of `content` and zeros after them. MemoryError."""
        cdef Bytes b
        if not mmsb_buffer_reserve(&self.page.bytes, &mmsb_alloc_libc, size):
            raise MemoryError(f"no memory for {size} bytes of page {self.page_id}")
        self.page.bytes.size = size
        if size == 0:
            return  # there is no memory either
        memset(self.page.bytes.data, 0, size)
        if content is not None:
            b = Bytes(content, None)
            memcpy(self.page.bytes.data, b.at, min(<uint64_t>b.buffer.len, size))

    def apply(self, Nodes nodes not None, data, uint64_t skip=0):
        """Applies collected changes, oldest first; the `skip` newest ones are left out."""
        cdef Bytes b = Bytes(data, nodes.index)
        cdef uint64_t count = nodes.numbers.size // sizeof(uint32_t)
        cdef int status = MMSB_OK
        if skip > count:
            raise ValueError("fewer changes than that")
        with nodes.index.lock:
            with nogil:
                if nodes.found.still != NULL:
                    status = mmsb_still_lay(nodes.found.still, &mmsb_alloc_libc, &self.page)
                if nodes.found.tape != NULL and status == MMSB_OK:
                    status = mmsb_still_play(&nodes.index.index, &KERNELS, b.at, self.page_id, nodes.found.tape,
                                             nodes.found.tape_from, nodes.found.tape_to, &self.page)
                if status == MMSB_OK:
                    status = mmsb_index_apply(&nodes.index.index, &KERNELS, b.at, self.page_id,
                                              <const uint32_t *>nodes.numbers.data + skip, count - skip, &self.page)
        if status != MMSB_OK:
            nodes.index._fail(status)

    def take(self):
        """The bytes."""
        return PyBytes_FromStringAndSize(<const char *>self.page.bytes.data, <Py_ssize_t>self.page.bytes.size)
