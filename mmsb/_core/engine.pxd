from libc.stdint cimport uint32_t, uint64_t

from mmsb._core.c_propagate cimport mmsb_link, mmsb_propagation
from mmsb._core.graph cimport Graph
from mmsb._core.semiring cimport Semiring
from mmsb._core.state cimport Core

cdef class Engine:
    cdef mmsb_propagation p
    cdef readonly Core core
    cdef readonly Graph graph
    cdef readonly dict functions   # by child's page id: (function, dtype, shape)
    cdef dict kept                 # by child's page id: what the rule's pointers need alive
    cdef public object policy      # None: a wave follows every commit at once
    cdef readonly int held         # how many deferred() there are: above 0 no policy is asked
    cdef object pool               # threads that compute the native links of a level, None: none
    cdef int threads
    cdef uint64_t least_bytes      # of a level that is worth them
    cdef readonly uint64_t waves, computed, skipped
    cdef uint32_t calls            # rules that are functions
    cdef uint64_t marked           # touched pages whose children are marked as stale
    cdef bint running
    cdef dict reasons
    cdef set strangers             # children whose semiring is not built in: it may call Python

    cdef int committed(self) except -1
    cdef int mark_page(self, uint64_t page_id, list marked) except -1
    cdef int wave(self, bint partial) except -1
    cdef int run(self) except -1
    cdef int spread(self) except -1
    cdef int call(self) except -1
    cdef object fail_here(self, str reason)
    cdef object fill(self, mmsb_link *native, link, list sizes, Semiring semiring)
    cdef int publish(self, void *info, bint partial) except -1
