"""RingServer: the owner's ends of command rings, one slot for each client.

Plain writes go into the core in C, many at a time; everything else is handed to execute(), which mmsb.executing
defines.
All methods belong to one thread at a time; the caller sees to that.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.string cimport memset

from mmsb._core.c_mmsb cimport *
from mmsb._core.c_ring cimport *
from mmsb._core.errors cimport raise_status
from mmsb._core.state cimport CLOSED, Core, FORKED, UNWRITABLE

# One client's turn. Long enough for the fixed costs of a turn, short enough for the others (under 200 microseconds).
TURN_RECORDS, TURN_BYTES = 512, 1 << 17
# Turns with less to do than this keep the GIL: to give it away and get it back would take longer than the writes.
cdef uint64_t RELEASE_GIL_BYTES = 1 << 14
cdef tuple RIGHTS = (None, "change", "create", "delete")  # as mmsb_right


cdef object text_of(const uint8_t *text, uint64_t count):
    """Bytes as they came; None when there are none."""
    return PyBytes_FromStringAndSize(<const char *>text, count) if count else None


cdef class Command:
    """A command as a client sent it, in the owner's memory; docs/formats/commands.md says what its parts mean.
    `inside`: the commands of a batch."""

    cdef readonly int kind
    cdef readonly int flags
    cdef readonly int durability
    cdef readonly int code
    cdef readonly uint64_t page_id
    cdef readonly uint64_t at
    cdef readonly object if_epoch  # int, or None when the client does not ask for an epoch
    cdef readonly uint64_t count   # CREATE_MANY, WRITE_MANY
    cdef readonly bytes source
    cdef readonly bytes intent
    cdef readonly bytes name
    cdef readonly bytes rule
    cdef readonly bytes metadata
    cdef readonly bytes numbers
    cdef readonly bytes data
    cdef readonly list inside

    @staticmethod
    cdef Command make(const mmsb_command *parsed):
        cdef Command command = Command.__new__(Command)
        cdef const mmsb_command_head *head = &parsed.head
        cdef mmsb_command op
        cdef uint64_t at = 0
        command.kind = head.kind
        command.flags = head.flags
        command.durability = head.durability
        command.code = head.code
        command.page_id = head.page_id
        command.at = head.at
        command.if_epoch = head.if_epoch if head.flags & MMSB_COMMAND_IF_EPOCH else None
        command.count = head.if_epoch
        command.source = text_of(parsed.source, head.source_bytes)
        command.intent = text_of(parsed.intent, head.intent_bytes)
        command.name = text_of(parsed.name, parsed.name_bytes)
        command.rule = text_of(parsed.rule, parsed.rule_bytes)
        command.metadata = text_of(parsed.metadata, parsed.metadata_bytes)
        command.inside = []
        if head.kind == MMSB_COMMAND_BATCH:
            while mmsb_command_next(parsed, &at, &op) == MMSB_OK:
                command.inside.append(Command.make(&op))
        else:
            command.data = PyBytes_FromStringAndSize(<const char *>parsed.data, parsed.data_bytes)
        if head.kind == MMSB_COMMAND_WRITE_MANY:
            command.numbers = PyBytes_FromStringAndSize(<const char *>parsed.numbers, head.if_epoch * 24)
        return command


cdef class RingSlot:
    """The ring of one client: `fd`, `flag_fd` and `bell_fd` are what the client needs, and stay the owner's."""

    cdef mmsb_client client
    cdef int flag
    cdef int bell
    cdef uint64_t left  # bytes of what a client that is gone had published and that is not done

    def __cinit__(self):
        self.bell = -1

    def __dealloc__(self):
        self.release()

    cdef void release(self):
        mmsb_client_release(&self.client)
        memset(&self.client, 0, sizeof(mmsb_client))
        if self.bell >= 0:
            os.close(self.bell)
            self.bell = -1

    @property
    def fd(self):
        """Descriptor of the ring's memory."""
        return self.client.memory.fd

    @property
    def flag_fd(self):
        """Descriptor of the page that says whether the owner sleeps, which clients map for reading."""
        return self.flag

    @property
    def bell_fd(self):
        """The eventfd that the client rings."""
        return self.bell

    @property
    def stats(self):
        """`commands` taken so far, how many `failed`, bytes `pending` in the ring, and what the client did against the
        protocol (`broken`, None: nothing)."""
        cdef uint64_t pending = 0
        if self.client.memory.base != NULL:
            pending = min(mmsb_ring_pending(&self.client.commands), self.client.commands.capacity)
        broken = self.client.broken.decode() if self.client.broken != NULL else None
        return {"commands": self.client.number, "failed": self.client.failed, "pending": pending, "broken": broken}

    def allow(self, pages="all", *, bint create=True, bint delete=True):
        """Says what the client may do from now on, instead of what it might before: change `pages` ("all", or ids),
        create pages (which it then may change), delete pages that it may change. A new slot may do nothing.
        """
        cdef mmsb_rights *rights = &self.client.rights
        rights.every_page = pages == "all"
        rights.creates = create
        rights.deletes = delete
        self.client.rights.pages.size = 0
        if not rights.every_page:
            for page_id in pages:
                self.allow_more(page_id, 1)

    cdef int allow_more(self, uint64_t first, uint64_t count) except -1:
        if not self.client.rights.every_page:
            if mmsb_rights_add(&self.client.rights, &mmsb_alloc_libc, first, count) != MMSB_OK:
                raise MemoryError()
        return 0


cdef class RingServer:
    """The clients of one State."""

    cdef readonly Core state
    cdef readonly list slots
    cdef readonly list broken   # slots of clients that broke the protocol, for the caller to drop
    cdef readonly list leaving  # slots of clients that are gone and have something left to be done
    cdef readonly list left     # such slots with nothing left, for the caller to drop
    cdef mmsb_memory flag
    cdef mmsb_client **clients  # of slots, in the same order
    cdef uint64_t next          # whose turn is first
    cdef mmsb_patience patience

    def __cinit__(self, Core state not None):
        self.state = state
        self.slots = []
        self.broken = []
        self.leaving = []
        self.left = []
        mmsb_patience_init(&self.patience)
        cdef int status = mmsb_memory_create(&self.flag, 4096, False)
        if status != MMSB_OK:
            raise_status(status)

    def __dealloc__(self):
        PyMem_Free(self.clients)
        mmsb_memory_release(&self.flag)

    cdef uint32_t *sleeping(self):
        return <uint32_t *>self.flag.base

    def add(self, uint64_t command_bytes=1 << 20, uint64_t completion_bytes=1 << 18):
        """A new client's RingSlot; sizes are powers of two from 4096 on. ValueError, MemoryError."""
        cdef RingSlot slot = RingSlot.__new__(RingSlot)
        cdef void *grown = PyMem_Realloc(self.clients, (len(self.slots) + 1) * sizeof(mmsb_client *))
        if grown == NULL:
            raise MemoryError()
        self.clients = <mmsb_client **>grown
        cdef int status = mmsb_client_init(&slot.client, &mmsb_alloc_libc, command_bytes, completion_bytes)
        if status == MMSB_BAD_SIZE:
            raise ValueError(f"A ring of {command_bytes} and {completion_bytes} bytes cannot be made. Use powers of "
                             "two, 4096 to 1 GiB.")
        if status != MMSB_OK:
            raise_status(status)
        slot.flag = self.flag.fd
        slot.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.slots.append(slot)
        self.renumber()
        return slot

    cdef void renumber(self):
        for i in range(len(self.slots)):
            self.clients[i] = &(<RingSlot>self.slots[i]).client

    def drop(self, RingSlot slot not None):
        """Ends a client's connection. What it has published, and the owner did not refuse to read, is done first."""
        if slot not in self.slots:
            return
        try:
            if not slot.client.gone:
                RingServer.leave(self, slot)
            self.serve(slot, <uint64_t>-1, slot.client.commands.capacity)
        finally:
            self.slots.remove(slot)
            for one in (self.leaving, self.left):
                if slot in one:
                    one.remove(slot)
            self.renumber()
            slot.release()

    def leave(self, RingSlot slot not None):
        """The client of a slot is gone. What it has published is done in its turns, as if it were there; then the slot
        is in `left`.
        """
        slot.client.gone = True
        slot.left = min(mmsb_ring_pending(&slot.client.commands), slot.client.commands.capacity)
        self.leaving.append(slot)
        self.look_for_end(slot, MMSB_SERVED_TURN)

    cdef int look_for_end(self, RingSlot slot, int status) except -1:
        """After a turn of a client that is gone. More than was published by then is nobody's command."""
        if slot not in self.leaving or slot.client.taken and slot.client.broken == NULL:
            return 0
        if status != MMSB_SERVED_TURN or slot.left == 0 or slot.client.broken != NULL:
            self.leaving.remove(slot)
            self.left.append(slot)
        return 0

    cdef int look_for_ends(self) except -1:
        """What a client that is gone had published may be taken back, by another that has its ring."""
        cdef RingSlot slot
        for slot in list(self.leaving):
            if not mmsb_client_is_ready(&slot.client):
                self.look_for_end(slot, MMSB_SERVED_ALL)
        return 0

    # ---- serving

    cdef int run(self, RingSlot slot, mmsb_turn *turn) except -1000:
        """One call of mmsb_client_serve. Its result."""
        cdef Core state = self.state
        cdef int status
        cdef int token = state.enter(CLOSED | FORKED | UNWRITABLE)
        turn.direct = state.clock is None and not state.sync_commits
        turn.merges = not state.merges_call
        turn.commits = 0
        if mmsb_ring_pending(&slot.client.commands) < RELEASE_GIL_BYTES:
            status = mmsb_client_serve(&slot.client, &state.core, turn)
            state.leave(token)
        else:
            state.leave(token)
            state.begin_commit()
            try:
                with nogil:
                    status = mmsb_client_serve(&slot.client, &state.core, turn)
            finally:
                state.end_commit()
        if turn.commits:
            state.after_commit()
        return status

    cpdef bint serve(self, RingSlot slot, uint64_t records=TURN_RECORDS, uint64_t count=TURN_BYTES) except -1:
        """Does what a client has published, at most `records` commands and about `count` bytes. True when there may be
        more now; False: the client must send, or take completions, first. A client that broke the protocol goes to
        `broken`, and nothing more is read from it.
        """
        cdef mmsb_turn turn
        cdef int status = MMSB_SERVED_COMMAND
        turn.records = records
        if slot.client.gone:
            count = min(count, slot.left)
        turn.bytes = count
        if slot.client.broken != NULL:
            return False
        while status == MMSB_SERVED_COMMAND:
            status = self.run(slot, &turn)
            if status == MMSB_SERVED_COMMAND:
                self.do_command(slot)
        if slot.client.gone:
            slot.left -= count - turn.bytes
            self.look_for_end(slot, status)
        if status == MMSB_NO_MEMORY:
            raise MemoryError()
        if status == MMSB_RING_BROKEN:
            self.broken.append(slot)
        return status == MMSB_SERVED_TURN

    cdef int do_command(self, RingSlot slot) except -1:
        """Does what the core did not do by itself, and acknowledges it."""
        cdef mmsb_client *client = &slot.client
        cdef mmsb_completion answer
        cdef Command command
        cdef uint32_t known
        cdef bytes facts = b""
        memset(&answer, 0, sizeof(mmsb_completion))
        # Whatever happens, the command is done once: an exception that is not its own ends it as well.
        answer.status = MMSB_COMPLETION_FAILED
        try:
            if client.verdict == MMSB_OK:
                command = Command.make(&client.command)
                facts, seq, epoch, first_page, created = self.execute(command)
                if facts is None:
                    facts = b""
                    answer.status = MMSB_COMPLETION_DONE if seq else MMSB_COMPLETION_UNCHANGED
                    answer.seq = seq
                    answer.epoch = epoch
                    answer.first_page = first_page
                    for page_id, count in created:
                        slot.allow_more(page_id, count)
                    if command.source is not None:
                        known = self.state.known_source(command.source.decode())
                        if known != 0:  # else no commit took it: nothing changed
                            mmsb_client_know_source(client, known)
            else:
                right = RIGHTS[client.refusal.right] if client.verdict == MMSB_NO_RIGHT else None
                facts = self.refuse(right, client.refusal.page_id)
        finally:
            mmsb_client_complete(client, &answer, <const uint8_t *>PyBytes_AS_STRING(facts),
                                 <uint32_t>PyBytes_GET_SIZE(facts))
            mmsb_client_publish(client)
        return 0

    def execute(self, command):
        """Does a Command as the same local call would. (None, seq or 0, epoch or 0, first page created or 0,
        [(first page, count), ...] created), or the encoded facts of the failure and four times nothing.
        """
        raise NotImplementedError

    def refuse(self, right, page_id):
        """The encoded facts of a command for which a `right` ("change", "create", "delete") is missing, or (None) that
        is malformed.
        """
        raise NotImplementedError

    cpdef bint serve_all(self) except -1:
        """One turn for each client, the first one being another each time. True when there may be more to do now."""
        cdef list order = self.slots[self.next:] + self.slots[:self.next]
        cdef bint more = False
        cdef RingSlot slot
        self.next = (self.next + 1) % max(1, <uint64_t>len(self.slots))
        for slot in order:
            if mmsb_client_is_ready(&slot.client) and self.serve(slot):
                more = True
        return more

    def serve_while_busy(self, double seconds):
        """Serves all clients until none of them sends anything for some microseconds, one is to be dropped, or the
        time is up. True when there may be more to do now.
        """
        cdef uint64_t end = mmsb_clock_monotonic() + <uint64_t>(seconds * 1e9)
        while self.is_ready():
            self.serve_all()
            if self.broken or self.left or mmsb_clock_monotonic() >= end:
                return True
        return False

    # ---- sleeping

    cpdef bint is_ready(self, bint spin=True):
        """Whether a client has something to do for serve_all(), at once or (`spin`) within microseconds."""
        cdef uint64_t count = len(self.slots)
        cdef mmsb_patience *patience = &self.patience if spin else NULL
        cdef bint ready
        if count == 0:
            return False
        with nogil:
            ready = mmsb_clients_await(self.clients, count, patience)
        return ready

    def fall_asleep(self):
        """Asks clients to ring their bells. False when there is something to do already; then nothing is asked."""
        mmsb_ring_fall_asleep(self.sleeping())
        self.look_for_ends()
        if self.left or self.is_ready(spin=False):
            mmsb_ring_stay_awake(self.sleeping())
            return False
        return True

    def stay_awake(self):
        """Takes back what fall_asleep() asked for."""
        mmsb_ring_stay_awake(self.sleeping())
