"""RingClient: the client's end of a command ring. mmsb.commands makes something to use of it."""

import os
import time
from collections import OrderedDict, deque

from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.string cimport memcpy

from mmsb._core.c_mmsb cimport *
from mmsb._core.c_ring cimport *
from mmsb._core.delta cimport Delta, UNKNOWN, new_delta
from mmsb._core.errors cimport raise_status
from mmsb._core.page cimport take_buffer

from mmsb import errors
from mmsb.arguments import encode_source

# So often a client that waits looks after signals and whether its owner lives.
cdef uint64_t LOOK_NS = 50_000_000
# Completions that nobody asked for are kept up to this number; the oldest go.
cdef Py_ssize_t KEPT = 65536
# Commands of one submit_writes() that are published at once.
cdef uint64_t PUBLISH_COUNT = 64

KINDS = {
    "write": MMSB_COMMAND_WRITE, "assign": MMSB_COMMAND_ASSIGN, "apply": MMSB_COMMAND_APPLY,
    "create": MMSB_COMMAND_CREATE, "create_many": MMSB_COMMAND_CREATE_MANY, "delete": MMSB_COMMAND_DELETE,
    "resize": MMSB_COMMAND_RESIZE, "rename": MMSB_COMMAND_RENAME, "metadata": MMSB_COMMAND_METADATA,
    "write_many": MMSB_COMMAND_WRITE_MANY, "batch": MMSB_COMMAND_BATCH,
}
IF_EPOCH, REBASE, DETACH = MMSB_COMMAND_IF_EPOCH, MMSB_COMMAND_REBASE, MMSB_COMMAND_DETACH
NO_WAVE = MMSB_COMMAND_NO_WAVE
CREATED = MMSB_COMMAND_CREATED
RULE_MAX = MMSB_COMMAND_RULE_MAX
FACTS_MAX = MMSB_COMPLETION_BYTES_MAX - sizeof(mmsb_completion)


def delta_from_payload(page_id, code, bytes payload, seq, index, epoch, source, timestamp_ns):
    """A Delta as its encoding and the facts about it say. InvalidDeltaError when the encoding is malformed."""
    cdef Delta delta = new_delta(page_id, code, <const uint8_t *>PyBytes_AS_STRING(payload), len(payload))
    cdef mmsb_delta_view view
    delta.view(&view)
    delta.seq = seq
    delta.index = index
    delta._epoch = UNKNOWN if epoch is None else epoch
    delta.source = source
    delta.timestamp_ns = timestamp_ns
    return delta


cdef class Completion:
    """What became of a command: its `number`; `seq` of the commit, None when there was none; `epoch` that a single
    write left the page at; `first_page`, id of the first page created (others follow it); `facts` of a failure."""

    cdef readonly uint64_t number
    cdef readonly object seq
    cdef readonly object epoch
    cdef readonly object first_page
    cdef readonly bytes facts

    @property
    def failed(self):
        """Whether the command was refused."""
        return self.facts is not None

    def __repr__(self):
        return f"<Completion {self.number} {'failed' if self.failed else f'seq={self.seq} epoch={self.epoch}'}>"


cdef class RingClient:
    """Sends commands and takes completions. `ring`, `flag`, `bell`: descriptors as the owner's RingSlot has them, which
    from now on are this object's. May be used by several threads, not after fork(). NotAStoreError, FormatVersionError.
    """

    cdef mmsb_memory memory
    cdef mmsb_memory flag
    cdef mmsb_ring_end commands
    cdef mmsb_ring_end completions
    cdef mmsb_buffer record
    cdef mmsb_patience patience
    cdef int bell
    cdef readonly uint64_t number        # of the last command sent
    cdef readonly uint64_t acknowledged  # number of the last completion taken
    cdef readonly uint64_t failed        # completions that were failures
    cdef readonly uint64_t seq           # of the newest commit made for this client
    cdef object results                    # completions by number, until somebody asks for them
    cdef object quiet                    # [first, last] of commands whose successes are not kept
    cdef object last_source
    cdef bytes last_source_bytes
    cdef public double timeout           # seconds that a call waits when it is not told otherwise
    cdef public object owner_alive       # called now and then while waiting: False ends it
    cdef object decode                   # makes an exception of the facts of a failure
    cdef object gone                     # why nothing can be sent any more, None while it can
    cdef object __weakref__

    def __cinit__(self, int ring, int flag, int bell, decode):
        self.bell = -1
        self.decode = decode
        cdef int status = mmsb_ring_map(&self.memory, ring)
        if status == MMSB_NEWER_VERSION:
            raise errors.FormatVersionError("The ring of commands has a layout that this release does not know. Use "
                                            "the same mmsb on both sides.", path=None, version=None, supported=1)
        if status == MMSB_BAD_HEADER:
            raise errors.NotAStoreError("The descriptor is no ring of commands.", path=None)
        if status == MMSB_OK:
            status = mmsb_memory_map(&self.flag, flag, False)
        if status != MMSB_OK:
            if self.memory.base != NULL:
                self.memory.fd = -1  # still the caller's
                mmsb_memory_release(&self.memory)
            raise_status(status)
        mmsb_ring_ends(&self.memory, &self.commands, &self.completions)
        mmsb_patience_init(&self.patience)
        self.bell = bell
        self.results = OrderedDict()
        self.quiet = deque()
        self.timeout = 10.0

    def __dealloc__(self):
        self.close()

    def close(self):
        """Ends the connection: lets go of the memory and closes the descriptors. May be called again."""
        if self.bell >= 0:
            self.gone = "it is closed"
            mmsb_memory_release(&self.memory)
            mmsb_memory_release(&self.flag)
            mmsb_buffer_release(&self.record, &mmsb_alloc_libc)
            os.close(self.bell)
            self.bell = -1

    def disown(self, reason):
        """Nothing more can be sent: the owner is gone, or this is the child of a fork."""
        self.gone = reason

    @property
    def batch_bytes_max(self):
        """Bytes of the longest command, its 48 bytes of head included."""
        return mmsb_ring_record_max(&self.commands)

    @property
    def in_flight(self):
        """Commands that were sent and are not acknowledged, as far as was looked."""
        return self.number - self.acknowledged

    # ---- sending

    cdef int check(self) except -1:
        if self.gone is not None:
            raise errors.OwnerGoneError(
                f"No command can be sent: {self.gone}. Get a new ring from an owner.", reason=self.gone)
        return 0

    cdef uint64_t deadline(self, timeout) except? 0:
        """When to give up, in ns of the monotonic clock."""
        cdef double seconds = self.timeout if timeout is None else timeout
        return time.monotonic_ns() + <uint64_t>(max(0.0, min(seconds, 1e9)) * 1e9)

    cdef int wait_for_owner(self, uint64_t deadline, object number) except -1:
        """Returns when there may be news. BusyError after the deadline, OwnerGoneError. Call take() before."""
        cdef uint64_t now = time.monotonic_ns()
        cdef uint64_t seen = self.completions.here
        cdef bint moved
        if now >= deadline:
            raise errors.BusyError(
                "The owner did not come to it in time. Try again, or give it more time with timeout=.", number=number)
        cdef uint64_t wait_ns = min(deadline - now, LOOK_NS)
        cdef mmsb_ring_shared *shared = <mmsb_ring_shared *>self.memory.base
        with nogil:
            moved = mmsb_ring_await_owner(shared, seen, &self.patience, wait_ns)
        if not moved:
            PyErr_CheckSignals()
            if self.owner_alive is not None and not self.owner_alive() and mmsb_ring_pending(&self.completions) == 0:
                self.disown("its owner is gone")
        return self.check()

    cdef uint8_t *room(self, uint64_t bytes, object timeout) except NULL:
        """Where the next record goes. CommandSizeError, BusyError, OwnerGoneError: then nothing was sent."""
        cdef uint8_t *place
        cdef uint64_t deadline = 0
        self.check()
        if bytes > mmsb_ring_record_max(&self.commands):
            raise errors.CommandSizeError(
                f"The command has {bytes} bytes and the ring takes {mmsb_ring_record_max(&self.commands)}. "
                "Send it in parts, or get a larger ring.",
                size=bytes, limit=mmsb_ring_record_max(&self.commands))
        place = mmsb_ring_reserve(&self.commands, bytes)
        while place == NULL:
            if deadline == 0:
                deadline = self.deadline(timeout)
                mmsb_ring_publish(&self.commands)
                mmsb_ring_call_owner(<const uint32_t *>self.flag.base, self.bell)
            self.take()
            place = mmsb_ring_reserve(&self.commands, bytes)
            if self.commands.broken != NULL:
                self.disown("the owner broke the protocol of the ring")
                self.check()
            if place == NULL:
                self.wait_for_owner(deadline, None)
        return place

    cdef bytes source_bytes(self, object source):
        if source is not self.last_source:
            self.last_source_bytes = None if source is None else encode_source(source)
            self.last_source = source
        return self.last_source_bytes

    cdef uint64_t put(self, mmsb_command_head *head, bytes source, bytes intent, bytes front, const uint8_t *data,
                      uint64_t data_bytes, object timeout) except 0:
        """Puts one command into the ring. It is not published yet."""
        cdef uint64_t source_bytes = 0 if source is None else PyBytes_GET_SIZE(source)
        cdef uint64_t intent_bytes = 0 if intent is None else PyBytes_GET_SIZE(intent)
        cdef uint64_t front_bytes = 0 if front is None else PyBytes_GET_SIZE(front)
        cdef uint64_t bytes_of_all = sizeof(mmsb_command_head) + source_bytes + intent_bytes + front_bytes + data_bytes
        cdef uint8_t *place = self.room(bytes_of_all, timeout)
        cdef uint8_t *at = place + sizeof(mmsb_command_head)
        head.number = self.number + 1
        head.source_bytes = <uint16_t>source_bytes
        head.intent_bytes = <uint32_t>intent_bytes
        memcpy(place, head, sizeof(mmsb_command_head))
        if source_bytes:
            memcpy(at, PyBytes_AS_STRING(source), source_bytes)
        if intent_bytes:
            memcpy(at + source_bytes, PyBytes_AS_STRING(intent), intent_bytes)
        if front_bytes:
            memcpy(at + source_bytes + intent_bytes, PyBytes_AS_STRING(front), front_bytes)
        if data_bytes:
            memcpy(at + source_bytes + intent_bytes + front_bytes, data, data_bytes)
        mmsb_ring_put(&self.commands, place, <uint32_t>bytes_of_all, head.kind, head.flags,
                      head.durability | <uint16_t>(head.code << 8))
        self.number += 1
        return self.number

    cdef void publish(self):
        mmsb_ring_publish(&self.commands)
        mmsb_ring_call_owner(<const uint32_t *>self.flag.base, self.bell)

    cpdef uint64_t submit_write(self, uint64_t page_id, data, uint64_t at=0, source=None, bytes intent=None,
                                if_epoch=None, int flags=0, int durability=0, timeout=None) except 0:
        """Sends a write without waiting for it. The number of the command."""
        cdef mmsb_command_head head
        cdef Py_buffer buffer
        head = mmsb_command_head(0, MMSB_COMMAND_WRITE, <uint8_t>flags, <uint8_t>durability, 0, 0, page_id,
                                 at, 0, 0, 0)
        if if_epoch is not None:
            head.flags |= MMSB_COMMAND_IF_EPOCH
            head.if_epoch = if_epoch
        if type(data) is bytes:
            self.put(&head, self.source_bytes(source), intent, None, <const uint8_t *>PyBytes_AS_STRING(data),
                     PyBytes_GET_SIZE(data), timeout)
        else:
            take_buffer(data, &buffer)
            try:
                self.put(&head, self.source_bytes(source), intent, None, <const uint8_t *>buffer.buf, buffer.len,
                         timeout)
            finally:
                PyBuffer_Release(&buffer)
        self.publish()
        return self.number

    def write(self, uint64_t page_id, data, uint64_t at=0, source=None, bytes intent=None, if_epoch=None,
              int flags=0, int durability=0, timeout=None):
        """submit_write() and wait() in one."""
        return self.wait(self.submit_write(page_id, data, at, source, intent, if_epoch, flags, durability, timeout),
                         timeout)

    def submit(self, int kind, uint64_t page_id=0, uint64_t at=0, uint64_t if_epoch=0, *, int flags=0,
               int durability=0, int code=0, source=None, bytes intent=None, bytes front=None, data=b"", timeout=None):
        """Sends a command of any kind without waiting for it; its parts are as docs/formats/commands.md has them. The
        number of the command.
        """
        cdef mmsb_command_head head
        cdef Py_buffer buffer
        head = mmsb_command_head(0, <uint8_t>kind, <uint8_t>flags, <uint8_t>durability, <uint8_t>code, 0, page_id, at,
                                 if_epoch, 0, 0)
        take_buffer(data, &buffer)
        try:
            self.put(&head, self.source_bytes(source), intent, front, <const uint8_t *>buffer.buf, buffer.len, timeout)
        finally:
            PyBuffer_Release(&buffer)
        self.publish()
        return self.number

    def submit_writes(self, const uint64_t[::1] ids, const uint64_t[::1] offsets, const uint64_t[::1] lengths,
                      const uint8_t[::1] payload, source=None, timeout=None):
        """Sends len(ids) writes, each a command of its own: the i-th puts the next lengths[i] bytes of `payload` at
        offsets[i] of page ids[i]. (first, last) number. Their successes are counted and not kept. BusyError: those up
        to `number` were sent.
        """
        cdef uint64_t i, at = 0, total = 0, first = self.number + 1
        cdef mmsb_command_head head
        cdef bytes name = self.source_bytes(source)
        cdef uint64_t count = ids.shape[0]
        for i in range(count):
            if lengths[i] > <uint64_t>payload.shape[0] - total:
                break
            total += lengths[i]
        if total != <uint64_t>payload.shape[0] or (count and i + 1 != count):
            raise errors.InvalidDeltaError("The lengths do not add up to the payload. Make them equal.")
        # Now already, because completions come while there are still commands to send.
        cdef list quiet = [first, first + count - 1]
        if count:
            self.quiet.append(quiet)
        try:
            for i in range(count):
                head = mmsb_command_head(0, MMSB_COMMAND_WRITE, 0, 0, 0, 0, ids[i], offsets[i], 0, 0, 0)
                self.put(&head, name, None, None, &payload[at] if lengths[i] else NULL, lengths[i], timeout)
                at += lengths[i]
                if i % PUBLISH_COUNT == PUBLISH_COUNT - 1:
                    self.publish()
        finally:
            if self.gone is None:
                self.publish()
            quiet[1] = self.number
        return first, self.number

    # ---- completions

    cdef bint is_quiet(self, uint64_t number):
        while self.quiet and self.quiet[0][1] < number:
            self.quiet.popleft()
        return bool(self.quiet) and self.quiet[0][0] <= number

    cdef int take(self) except -1:
        """Takes the completions that are there."""
        cdef mmsb_completion one
        cdef Completion completion
        cdef uint64_t quiet_until = 0, before = self.acknowledged
        cdef int status
        while True:
            status = mmsb_ring_take(&self.completions, &mmsb_alloc_libc, &self.record)
            if status != MMSB_OK:
                break
            memcpy(&one, self.record.data, sizeof(mmsb_completion))
            self.acknowledged += 1
            if self.record.size < sizeof(mmsb_completion) or one.number != self.acknowledged:
                status = MMSB_RING_BROKEN
                break
            if one.seq:
                self.seq = one.seq
            if one.status != MMSB_COMPLETION_FAILED:
                if one.number <= quiet_until:
                    continue
                if self.quiet and self.is_quiet(one.number):
                    quiet_until = self.quiet[0][1]
                    continue
            completion = Completion.__new__(Completion)
            completion.number = one.number
            completion.seq = one.seq or None
            completion.epoch = one.epoch or None
            completion.first_page = one.first_page or None
            if one.status == MMSB_COMPLETION_FAILED:
                self.failed += 1
                completion.facts = PyBytes_FromStringAndSize(
                    <const char *>self.record.data + sizeof(mmsb_completion),
                    self.record.size - sizeof(mmsb_completion))
            self.results[one.number] = completion
            if len(self.results) > KEPT:
                self.results.popitem(last=False)
        if status == MMSB_NO_MEMORY:
            raise MemoryError()
        if status == MMSB_RING_BROKEN:
            self.disown("the owner broke the protocol of the ring")
            self.check()
        if self.acknowledged != before:
            mmsb_ring_release(&self.completions)
            # The owner may have stopped for want of room for completions.
            mmsb_ring_call_owner(<const uint32_t *>self.flag.base, self.bell)
        return 0

    cpdef int settle(self, uint64_t number, timeout=None) except -1:
        """Waits until command `number` is acknowledged. BusyError (number) when the time is up, OwnerGoneError."""
        cdef uint64_t deadline = 0
        if number > self.number:
            raise ValueError(f"Command {number} was not sent; the last one is {self.number}.")
        if self.acknowledged < number:
            self.check()
            self.take()
        while self.acknowledged < number:
            if deadline == 0:
                deadline = self.deadline(timeout)
            self.wait_for_owner(deadline, number)
            self.take()
        return 0

    cpdef Completion wait(self, uint64_t number, timeout=None):
        """Waits for a command. Its Completion; None when nothing was kept of it (it is one of submit_writes(), or was
        asked for before). Raises what the owner refused it with, and as settle().
        """
        self.settle(number, timeout)
        cdef Completion completion = self.results.pop(number, None)
        if completion is not None and completion.facts is not None:
            raise self.decode(completion.facts)
        return completion

    def poll(self):
        """The completions that came since they were last asked for, oldest first, without waiting (list)."""
        if self.gone is None:
            self.take()
        found, self.results = list(self.results.values()), OrderedDict()
        return found
