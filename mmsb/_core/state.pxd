from libc.stdint cimport uint8_t, uint32_t, uint64_t

from mmsb._core.c_mmsb cimport mmsb_commit_info, mmsb_core, mmsb_memory, mmsb_page_header, mmsb_written
from mmsb._core.delta cimport Delta
from mmsb._core.semiring cimport Semiring

cdef enum:
    BUSY = 1  # a thread works inside without the GIL, or for longer than one call
    CLOSED = 2
    FORKED = 4
    READONLY = 8  # changes are refused; reads are not
    WAVE = 16  # a function of a wave runs: changes are refused
    UNWRITABLE = 24  # READONLY | WAVE

cdef enum:
    WAKE = 1  # _wake(), of the next one
    LISTENING = 2  # _tell(), of each

cdef enum:
    NEW_SOURCE = 0xFFFFFFFF  # of mmsb_commit_info: a source that no commit has taken; take_source() gives it a number

cdef class Core:
    cdef mmsb_core core
    cdef mmsb_memory shared_memory
    cdef int gate            # bits above; 0: come in. Read and written with the GIL held
    cdef void *mutex         # PyThread_type_lock behind BUSY
    cdef unsigned long owner  # thread that set BUSY
    cdef int depth           # how often the owner came in
    cdef bint alive          # core was initialised
    cdef bint sync_commits   # every commit is synced
    cdef bint reads_stale    # stale pages may be read
    cdef bint rolling        # the next segment is being made
    cdef int tells           # who is told of commits: WAKE, LISTENING
    cdef object last_source
    cdef uint32_t last_source_index
    cdef dict source_indices
    cdef list source_names
    cdef uint32_t sources    # of source_names that commits have taken, None with them; one more is being tried at most
    cdef uint64_t ids_end    # ids below it were given to batches, committed or not
    cdef list given_back     # slots dropped while another thread was busy
    cdef readonly dict _names
    cdef readonly dict _name_of
    cdef readonly dict _metadata
    # Addresses of the Slots that show pages, by page id; a Slot takes itself out. No weak references: what they call
    # is Python, and a signal handler may raise there, in the middle of a commit.
    cdef dict _slots
    cdef object clock
    cdef object engine       # Engine, None while no page depends on another
    cdef int (*touched_hook)(void *engine) except -1
    cdef readonly object _links
    cdef public uint64_t _notes_marked  # notes about changes whose pages' children are marked as stale
    cdef list merges         # Semirings of merge pages, as in core.merges; the first is None
    cdef bint merges_call    # Python computes one of them
    cdef readonly dict _failures  # exceptions of functions, by page
    cdef object __weakref__

    cdef int enter(self, int refused) except -1
    cdef int enter_slowly(self, int refused) except -1
    cdef void leave(self, int token)
    cdef int begin_exclusive(self) except -1
    cdef bint try_exclusive(self)
    cdef void shut(self)
    cdef void end_exclusive(self)
    cdef mmsb_page_header *header(self, uint64_t page_id) except NULL
    cdef mmsb_page_header *header_to_read(self, uint64_t page_id, int *token) except NULL
    cdef int set_source(self, mmsb_commit_info *info, object source) except -1
    cdef uint32_t known_source(self, object source) except? 0
    cdef int take_source(self, mmsb_commit_info *info, object source) except -1
    cdef void settle_source(self, mmsb_commit_info *info)
    cdef int prepare_info(self, mmsb_commit_info *info, object source, bytes label, bytes intent) except -1
    cdef Delta write(self, uint64_t page_id, uint64_t offset, const uint8_t *data, uint64_t length,
                     mmsb_commit_info *info, object source, bytes intent)
    cdef object fail(self, int status, uint64_t page_id, uint64_t at, uint64_t length)
    cdef uint64_t id_of(self, object page) except? 0
    cdef uint8_t merge_place(self, Semiring semiring) except 0
    cdef Semiring merge_of(self, uint64_t page_id)
    cdef int begin_commit(self) except -1
    cdef void end_commit(self)
    cdef int after_commit(self) except -1
    cdef int tell(self) except -1
