"""Kernels: a table of the C kernels as a value, for tests and for whoever wants to know what runs."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memset

from mmsb._core.c_mmsb cimport *

FEATURES = ("sse42", "avx2", "avx512", "pclmul")


cdef class Kernels:
    """The kernels that run when the CPU features named in `disable` (comma-separated) are not used.

    ValueError on an unknown name. `features` are those in use. Deltas are pairs (code, payload), docs/formats/delta.md.
    """

    cdef mmsb_kernels table

    def __init__(self, str disable=""):
        cdef uint32_t features = mmsb_cpu_detect()
        cdef const char *unknown = NULL
        cdef bytes names = disable.encode("utf-8", "backslashreplace")
        if mmsb_cpu_disable(&features, names, &unknown) != MMSB_OK:
            raise ValueError(f"{unknown.decode()!r} is no CPU feature; there are {', '.join(FEATURES)}")
        mmsb_kernels_init(&self.table, features)

    @property
    def features(self):
        """Names of the CPU features in use (tuple of str)."""
        return tuple(name for bit, name in enumerate(FEATURES) if self.table.features >> bit & 1)

    def diff(self, old, new, uint64_t base=0):
        """(code, payload) of the bytes in which `new` differs from `old` (equal lengths), None when in none."""
        cdef const uint8_t[::1] a = memoryview(old).cast("B")
        cdef const uint8_t[::1] b = memoryview(new).cast("B")
        cdef uint64_t n = a.shape[0]
        cdef uint8_t code = 0
        cdef int64_t size
        if a.shape[0] != b.shape[0]:
            raise ValueError("old and new have different lengths")
        if n == 0:
            return None
        cdef uint8_t *out = <uint8_t *>PyMem_Malloc(MMSB_DELTA_BOUND(n))
        if out == NULL:
            raise MemoryError()
        try:
            size = self.table.delta_diff(&a[0], &b[0], n, base, out, &code)
            return (code, out[:size]) if size else None
        finally:
            PyMem_Free(out)

    def apply(self, page, uint8_t code, bytes payload):
        """Writes a delta into a writable buffer. ValueError when it is malformed or does not fit."""
        cdef uint8_t[::1] view = memoryview(page).cast("B")
        if self.table.delta_apply(&view[0], view.shape[0], code, <const uint8_t *>payload, len(payload)) != MMSB_OK:
            raise ValueError("malformed delta")

    def merge(self, first, second, uint64_t page_bytes):
        """(code, payload) of `first` followed by `second`."""
        code_a, payload_a = first
        code_b, payload_b = second
        cdef uint8_t code = 0
        cdef uint64_t room = MMSB_DELTA_BOUND(len(payload_a) + len(payload_b)) * 2
        cdef uint8_t *out = <uint8_t *>PyMem_Malloc(room)
        cdef int64_t size
        if out == NULL:
            raise MemoryError()
        try:
            size = self.table.delta_merge(code_a, payload_a, len(payload_a), code_b, payload_b, len(payload_b),
                                          page_bytes, out, &code)
            if size < 0:
                raise ValueError("malformed delta")
            return code, out[:size]
        finally:
            PyMem_Free(out)

    def inverse(self, page, uint8_t code, bytes payload):
        """The payload, with the same code, that undoes a delta on `page`, the bytes before it."""
        cdef const uint8_t[::1] view = memoryview(page).cast("B")
        cdef uint8_t *out = <uint8_t *>PyMem_Malloc(len(payload) + 64)
        cdef int64_t size
        if out == NULL:
            raise MemoryError()
        try:
            size = self.table.delta_inverse(&view[0], view.shape[0], code, payload, len(payload), out)
            if size < 0:
                raise ValueError("malformed delta")
            return out[:size]
        finally:
            PyMem_Free(out)

    def parse(self, uint8_t code, bytes payload, uint64_t page_bytes):
        """([(offset, length), ...], values) of a delta. ValueError when it is malformed."""
        cdef mmsb_delta_view view
        cdef mmsb_run_cursor cursor
        if mmsb_delta_parse(code, payload, len(payload), page_bytes, &view) != MMSB_OK:
            raise ValueError("malformed delta")
        memset(&cursor, 0, sizeof(mmsb_run_cursor))
        runs = []
        while mmsb_delta_next_run(&view, &cursor):
            runs.append((cursor.offset, cursor.length))
        return runs, view.values[:view.value_count]

    def crc32c(self, bytes data, uint32_t crc=0):
        """CRC32C of bytes, continuing from `crc`."""
        return self.table.crc32c(crc, <const uint8_t *>data, len(data))


def cpu_report():
    """What the processor offers, what MMSB_DISABLE_CPU takes away, and which level of each kernel runs (dict)."""
    cdef bytes disabled = mmsb_cpu_environment()
    try:
        used = Kernels(disabled.decode()).features
    except ValueError:
        used = Kernels().features  # a State refuses the name; this only reports
    best = next((name for name in ("avx512", "avx2") if name in used), "scalar")
    return {
        "detected": list(Kernels().features),
        "disabled": [name for name in disabled.decode().split(",") if name],
        "used": list(used),
        "kernels": {
            "delta_diff": best,
            "delta_apply": "avx512" if best == "avx512" else "scalar",
            "delta_merge": "scalar",
            "delta_inverse": "scalar",
            "crc32c": ("pclmul" if "pclmul" in used else "sse42") if "sse42" in used else "scalar",
            "semirings": best,
        },
    }
