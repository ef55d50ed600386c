"""Taking commits back in a core that has no log (a replica): the opposite of applying a frame."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy, memset

from mmsb._core.c_mmsb cimport *
from mmsb._core.c_undo cimport *
from mmsb._core.delta cimport Delta
from mmsb._core.errors cimport raise_status
from mmsb._core.state cimport Core


def undo_delta(Core core not None, Delta inverse not None, uint64_t epoch):
    """Writes the values of `inverse` (from Delta.inverse) into its page and sets the page's epoch."""
    cdef mmsb_page_header *header = core.header(inverse.page_id)
    cdef int status = core.core.kernels.delta_apply(
        mmsb_arena_bytes(&core.core.arena, header.handle), header.size, inverse.code, inverse.payload_address(),
        inverse.payload_bytes)
    if status != MMSB_OK:
        raise_status(status)
    header.epoch = epoch


def put_page(Core core not None, uint64_t page_id, content, uint64_t epoch, uint8_t kind, bint described):
    """Makes the page exist with exactly this content, whatever it was before. MemoryError."""
    cdef mmsb_page_header *header = mmsb_arena_entry(&core.core.arena, page_id)
    cdef uint64_t handle = 0
    cdef uint64_t size
    cdef Py_buffer buffer
    cdef int status
    PyObject_GetBuffer(content, &buffer, PyBUF_SIMPLE)
    try:
        size = <uint64_t>buffer.len
        status = mmsb_arena_take(&core.core.arena, size, &handle)
        if status != MMSB_OK:
            raise_status(status)
        memcpy(mmsb_arena_bytes(&core.core.arena, handle), buffer.buf, size)
    finally:
        PyBuffer_Release(&buffer)
    if header.flags & MMSB_PAGE_LIVE:
        mmsb_core_drop_slot(&core.core, page_id, header.handle, header.size)
    else:
        core.core.page_count += 1
    header.handle = handle
    header.size = size
    header.epoch = epoch
    header.kind = kind
    header.flags = MMSB_PAGE_LIVE | (MMSB_PAGE_DESCRIBED if described else 0)


def drop_page(Core core not None, uint64_t page_id):
    """Makes a page that was created never have been."""
    cdef mmsb_page_header *header = core.header(page_id)
    mmsb_core_drop_slot(&core.core, page_id, header.handle, header.size)
    memset(header, 0, sizeof(mmsb_page_header))
    core.core.page_count -= 1


def forget_deleted(Core core not None, uint64_t page_id):
    """Makes a page that was created and deleted in one commit never have been."""
    memset(mmsb_arena_entry(&core.core.arena, page_id), 0, sizeof(mmsb_page_header))


def set_position(Core core not None, uint64_t seq, uint64_t time_ns, uint64_t branch, uint64_t next_page_id,
                 uint32_t last_crc):
    """Says where in history the core stands now."""
    core.core.seq = seq
    core.core.time_ns = time_ns
    core.core.branch = branch
    core.core.next_page_id = next_page_id
    core.core.last_crc = last_crc
