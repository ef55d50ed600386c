from cpython.array cimport array
from libc.stdint cimport uint32_t, uint64_t

from mmsb._core.c_propagate cimport mmsb_link, mmsb_link_copy, mmsb_propagation, mmsb_wave_scope
from mmsb._core.graph cimport Graph
from mmsb._core.linktable cimport Table
from mmsb._core.semiring cimport Semiring
from mmsb._core.state cimport Core

cdef class Engine:
    cdef mmsb_propagation p
    cdef void *owner               # the Core
    cdef object alive
    cdef Table links               # the Core's, and what they keep in `failed`, `linked`, `marked` and `unlogged`
    cdef dict failed, new_links
    cdef set marked, unlogged
    cdef readonly Graph graph
    cdef readonly dict functions   # by child's page id: (function, dtype, shape)
    cdef dict kept                 # by child's page id: its semiring, whether its rule calls Python, its weights
    cdef public object policy      # None: a wave follows every commit at once
    cdef readonly int deferrals    # how many deferred() there are: above 0 no policy is asked
    cdef object pool               # threads that compute the native links of a level, None: none
    cdef int threads
    cdef uint64_t least_bytes      # of a level that is worth them
    cdef readonly uint64_t waves, computed
    cdef uint32_t calls            # rules that call Python
    cdef bint running
    cdef bint held  # other threads are kept out until the wave's end
    cdef dict reasons

    cdef Core c(self)
    cdef int need(self) except -1
    cdef int committed(self) except -1
    cdef int wave(self, mmsb_wave_scope scope, int failed=*) except -1
    cdef int compute_all(self, mmsb_wave_scope scope) except -1
    cdef int run(self) except -1
    cdef int hold(self) except -1
    cdef int mark_all(self, fresh) except -1
    cdef void let_go(self)
    cdef int spread(self) except -1
    cdef int call(self) except -1
    cdef int misfit(self) except -1
    cdef object fail_here(self, str reason)
    cdef object fill(self, mmsb_link *native, mmsb_link_copy *whole, link, array sizes, Semiring semiring)
    cdef tuple fit_link(self, child, link, call, size_of)
    cdef int take_link(self, child, link, call, tuple fitting) except -1
    cdef list link_all(self, list staged, merges, size_of)
    cdef int put_rule(self, child, link, array sizes, Semiring semiring) except -1
    cdef int force_node(self, child) except -1
    cdef int forget_call(self, child) except -1
    cdef int publish(self, void *info, bint partial) except -1
    cdef dict failures(self)
    cdef object differing(self)
