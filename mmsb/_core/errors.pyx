"""The one place where a C status becomes a Python exception, and what no buffer of bytes may be."""

from cpython.bytearray cimport PyByteArray_CheckExact
from cpython.bytes cimport PyBytes_CheckExact

from mmsb._core.c_mmsb cimport *

import re

from mmsb import errors

cdef object FIELD_NAMES = re.compile(":[^:]*:")  # in the format of a buffer of structures

# What to say beside the status text: one sentence on what to do.
cdef dict TABLE = {
    MMSB_NO_MEMORY: (MemoryError, "Free memory or use smaller pages."),
    MMSB_ARENA_FULL: (errors.ArenaFullError, "Delete pages or open the State with a larger max_bytes."),
    MMSB_PAGE_NOT_FOUND: (errors.PageNotFoundError, "Look at state.pages() for the pages there are."),
    MMSB_OUT_OF_BOUNDS: (errors.PageRangeError, "Write inside the page, or resize it first."),
    MMSB_BAD_SIZE: (errors.PageSizeError, "A page has at least 1 byte and at most 64 GiB."),
    MMSB_BAD_DELTA: (errors.InvalidDeltaError, "Make the delta for a page of this size."),
    MMSB_EPOCH_MISMATCH: (errors.ConflictError, "Read the page again and decide anew, or pass rebase=True."),
    MMSB_FRAME_TOO_LARGE: (errors.PageSizeError, "Split the change: one commit holds at most 32 GiB."),
    MMSB_SEQ_FULL: (errors.StoreFullError, "A State has at most 2^63 - 1 commits."),
    MMSB_BAD_FRAME: (errors.CorruptLogError, "Run `mmsb verify` on the store."),
    MMSB_BAD_CRC: (errors.CorruptLogError, "Run `mmsb verify` on the store."),
    MMSB_BAD_LENGTH: (errors.CorruptLogError, "Run `mmsb verify` on the store."),
    MMSB_GAP: (errors.CorruptLogError, "Run `mmsb verify` on the store."),
    MMSB_BAD_HEADER: (errors.CorruptLogError, "Run `mmsb verify` on the store."),
    MMSB_NEWER_VERSION: (errors.FormatVersionError, "Install a newer mmsb."),
    MMSB_POISONED: (errors.CommitInDoubtError, "Close the State and open the store again."),
    MMSB_PAGE_EXISTS: (errors.InvalidDeltaError, "Ids are never used twice."),
    MMSB_CYCLE: (errors.GraphCycleError, "Remove an edge of the cycle first."),
    MMSB_EDGE_EXISTS: (errors.EdgeExistsError, "Remove it first, or leave it as it is."),
    MMSB_EDGE_NOT_FOUND: (errors.EdgeNotFoundError, "Look at edges() for the edges there are."),
    MMSB_PAGE_HAS_EDGES: (errors.PageHasEdgesError, "Remove its edges first, or pass detach=True."),
    MMSB_PAGE_IS_DERIVED: (errors.DerivedPageError, "Write to the pages that it is computed from."),
    MMSB_BAD_LANES: (errors.MergePageError, "Give whole lanes, or use page.assign()."),
    MMSB_BAD_LINK: (errors.LinkError, "Compare the link with the sizes of its pages and what they hold."),
}


cdef object raise_status(int status, str context="", dict facts=None):
    """Raises the exception of a negative status. `context` comes before the text of the status; `facts` become
    attributes of the error, unless it is Python's own, which has none."""
    text = mmsb_status_text(status).decode()
    cls, advice = TABLE.get(status, (errors.MMSBError, "Please report this."))
    if not issubclass(cls, errors.MMSBError):
        facts = None
    raise cls(f"{context}: {text}. {advice}" if context else f"{text[0].upper()}{text[1:]}. {advice}", **(facts or {}))


cpdef int no_pointers(object data) except -1:
    """TypeError for an array of Python objects: its bytes are addresses in this process."""
    if PyBytes_CheckExact(data) or PyByteArray_CheckExact(data):
        return 0
    dtype = getattr(data.obj if type(data) is memoryview else data, "dtype", None)
    if dtype is not None:
        if getattr(dtype, "hasobject", False):
            raise TypeError(f"data of dtype {dtype} are references to Python objects. Give numbers or bytes.")
        return 0
    try:
        words = memoryview(data).format
    except (TypeError, ValueError, BufferError):
        return 0  # what they are not, the caller says
    if "O" in words and "O" in FIELD_NAMES.sub("", words):
        raise TypeError(f"data of format {words} are references to Python objects. Give numbers or bytes.")
    return 0
