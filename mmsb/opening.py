"""mmsb.open(): from a path, or nothing, to a State."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from mmsb._core.files import Files
from mmsb._core.log import HEADER_BYTES
from mmsb.arguments import ns_of
from mmsb.errors import NotAStoreError, StoreFullError
from mmsb.groups import group_id, share
from mmsb.horizon import Horizon
from mmsb.log import SEGMENT_BYTES_LEAST, FileLog, MemoryLog, full
from mmsb.merging import own_semirings
from mmsb.policies import policy_of
from mmsb.recovery import Recovery, attach_last
from mmsb.state import DURABILITIES, State
from mmsb.store import Identity, Store, create, explain

# Least and most of the options that are a number of bytes.
BOUNDS = {
    "max_bytes": (1, (1 << 63) - 1),
    "history": (0, (1 << 63) - 1),
    "segment_bytes": (SEGMENT_BYTES_LEAST, 1 << 35),
    "checkpoint_bytes": (0, (1 << 63) - 1),
}
# Every State that is open in this process, so that a forked child can be told that none of them is its own.
_open_states: weakref.WeakSet[State] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for state in list(_open_states):
        state._close_gate(forked=True)
        if state._server is not None:
            state._server.abandon()
        if state._log is not None:
            state._log.protect()
        if state._store is not None:
            state._store.unlock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def open(
    path: str | os.PathLike[str] | None = None,
    *,
    start: str | os.PathLike[str] | None = None,
    durability: str | None = None,
    read_only: bool = False,
    name: str | None = None,
    max_bytes: int | None = None,
    history: int | None = None,
    segment_bytes: int | None = None,
    checkpoint_bytes: int | None = 64 << 20,
    compress: bool = False,
    anchor_key: bytes | None = None,
    group: str | int | None = None,
    disable_cpu: str | None = None,
    clock: Callable[[], int] | None = None,
    policy: Any = None,
    semirings: Iterable[Any] = (),
    files: Files | None = None,
    mapped: bool = True,
    _state_class: type[State] = State,
    _identity: Identity | None = None,
    _base: tuple[int, bytes] | None = None,
    _image: Any = None,
) -> State:
    """Opens the State stored in directory `path`, making it when it is missing; without a path one in memory.

    durability: "process" (default: survives the process), "group" (synced within 5 ms), "power" (synced before each
    commit returns); "none" is that of memory. read_only: works while another process writes; shows the log as it is
    now. max_bytes: bound of the page memory, and of the pages of each checkpoint that is read. history: bytes of log
    that a State in memory keeps (None: all). segment_bytes: fixed size of log segments (default: growing from 1 to 64
    MiB). checkpoint_bytes: log between automatic checkpoints (None: only on request and at close). compress: sealed
    segments are compressed with zstandard in the background. anchor_key: 32 secret bytes that key the anchors.
    disable_cpu: CPU features not to use.
    group: a group of users (name or number) whose members may read the store's files and attach; without it what is
    made is this user's alone. clock: function that gives ns since 1970. files, mapped: the file operations, for tests
    and special disks.
    semirings: the caller's own (mmsb.UfuncSemiring, or what else docs/plugins/semirings.md allows), which links and
    merge pages of this State find by their names; to be given again when the store is opened again.
    name: a name of the State, for people (it is in repr()) and for what other processes may call it.

    A path to a file is taken as a one-file checkpoint (State.stop): the State starts from it, in memory. start: such a
    file, from which a new store at `path` (or, without a path, a State in memory) starts.

    Raises NotAStoreError, StoreLockedError, FormatVersionError, CorruptLogError, StoreFullError, PluginError,
    SemiringError, ValueError, TypeError.
    """
    path = None if path is None else os.fsdecode(path)
    _check_options(
        path if path is not None or start is None else os.fsdecode(start),
        read_only,
        durability=durability,
        segment_bytes=segment_bytes,
        history=history,
        max_bytes=max_bytes,
        checkpoint_bytes=checkpoint_bytes,
        compress=compress,
        anchor_key=anchor_key,
        group=group,
        disable_cpu=disable_cpu,
    )
    gid = None if group is None else group_id(group)
    if start is not None and not os.path.isfile(start):
        raise NotAStoreError(f"There is no one-file checkpoint at {os.fsdecode(start)}. Check the path.", path=start)
    if start is not None and path is not None and os.path.lexists(os.path.join(path, "store")):
        raise NotAStoreError(f"A store is at {path} already. Open it without start=, or choose a new path.", path=path)
    files = files or Files()
    how: dict[str, Any] = {"name": name, "max_bytes": max_bytes, "disable": disable_cpu, "clock": clock}
    how["policy"] = policy_of(policy)
    how["semirings"] = own_semirings(semirings)
    if _image is not None:
        return _from_image(_state_class(files, **how), files, _image, history, segment_bytes, clock)
    path = os.fsdecode(start) if path is None and start is not None else path
    if path is None:
        return _in_memory(_state_class(files, **how), files, history, segment_bytes, clock)
    lock_fd = -1
    if os.path.isfile(path):
        from mmsb.checkpoint import MAGIC
        from mmsb.checkpoints import read_image

        path = os.path.realpath(path)  # a link of the caller's own is followed; none inside a store is
        if files.read_start(path, 7) != MAGIC[:7]:
            raise NotAStoreError(f"{path} is a file, and no checkpoint of mmsb. Check the path.", path=path)
        image = read_image(files, path, max_bytes)
        return _from_image(_state_class(files, **how), files, image, history, segment_bytes, clock)
    if not os.path.isdir(path) or not os.path.exists(os.path.join(path, "store")):
        if read_only:
            raise NotAStoreError(f"There is no store at {path}. Check the path.", path=path)
        now = ns_of(clock) if clock is not None else time.time_ns()
        identity = _identity or Identity(os.urandom(16), os.urandom(16), now, keyed=anchor_key is not None)
        if start is not None:
            from mmsb.fork import first_base

            identity, _base = first_base(files, os.fsdecode(start), identity)
        try:
            lock_fd = create(files, path, identity, _base)
        except OSError as error:
            raise full(error, path, 4096) or explain(error, path) from error
    try:
        store = Store(files, path, lock=not read_only, anchor_key=anchor_key, lock_fd=lock_fd)
    except OSError as error:
        raise full(error, path, 4096) or explain(error, path) from error

    if gid is not None:
        try:
            share(files, store.path, gid)
        except BaseException:
            store.close()
            raise

    def recovered() -> State:
        state = _state_class(files, **how)
        try:
            _recover(
                state,
                store,
                files,
                durability or "process",
                read_only,
                segment_bytes,
                mapped,
                checkpoint_bytes,
                compress,
                max_bytes,
            )
        except BaseException:
            if state._log is not None:
                state._log.close()
            raise
        return state

    try:
        state = store.steadily(recovered, lambda state: state.recovered.damage is None) if read_only else recovered()
    except BaseException as error:
        store.close()
        if isinstance(error, OSError) and not isinstance(error, StoreFullError):
            raise full(error, path, 0) or explain(error, path) from error
        raise
    _open_states.add(state)
    return state


def _check_options(path: str | None, read_only: bool, **options: Any) -> None:
    """Raises TypeError or ValueError for options that cannot be meant; `path` is None for a State in memory."""
    durability, key, disable = options["durability"], options["anchor_key"], options["disable_cpu"]
    if path == "":
        raise ValueError("The path is empty. Name a directory, or leave the path out for a State in memory.")
    if durability is not None and durability not in DURABILITIES:
        raise ValueError(f"Unknown durability {durability!r}. Use one of {', '.join(DURABILITIES)}.")
    if durability is not None and (durability == "none") != (path is None):
        raise ValueError(
            "durability 'none' is for a State in memory and the others need a path. Leave durability out, or change it."
        )
    for name, (least, most) in BOUNDS.items():
        number = options[name]
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name} is a number of bytes (int) or None, not {type(number).__name__}.")
        if not least <= number <= most:
            raise ValueError(f"{name} must be {least} to {most}, not {number}. Leave it out for the default.")
    if options["segment_bytes"] is not None and options["segment_bytes"] % 4096:
        raise ValueError(f"segment_bytes must be a multiple of 4096, not {options['segment_bytes']}.")
    if options["history"] is not None and path is not None and not os.path.isfile(path):
        raise ValueError("history bounds a State in memory. A stored one keeps all until state.compact().")
    if key is not None and (not isinstance(key, bytes) or len(key) != 32):
        raise ValueError("anchor_key must be 32 bytes.")
    if disable is not None and not isinstance(disable, str):
        raise TypeError(f"disable_cpu is a str such as 'avx2,avx512' or None, not {type(disable).__name__}.")
    if path is None and (read_only or options["compress"] or key is not None or options["group"] is not None):
        raise ValueError(
            "read_only, compress, anchor_key and group are of a stored State. Give a path, or leave them out."
        )
    if options["group"] is not None and (read_only or os.path.isfile(path or "")):
        raise ValueError("Only who writes to a store shares it with a group. Leave group out.")


def _in_memory(state: State, files: Files, history: Any, segment_bytes: Any, clock: Any) -> State:
    now = ns_of(clock) if clock is not None else time.time_ns()
    state._log = MemoryLog(
        state,
        files=files,
        segment_bytes=segment_bytes,
        salt=os.urandom(16),
        uuid=os.urandom(16),
        created_ns=now,
        history=history,
    )
    state._log.roll(state, 0)
    _open_states.add(state)
    return state


def _from_image(state: State, files: Files, image: Any, history: Any, segment_bytes: Any, clock: Any) -> State:
    image.load_into(state)
    image.segment, image.offset, image.last_crc, image.sources = 1, HEADER_BYTES, 0, {}
    state._set_position(image.seq, image.time_ns, image.branch, image.next_page_id)
    _in_memory(state, files, history, segment_bytes, clock)
    state._log.base = image
    state._start_engine()
    return state


def _recover(
    state: State,
    store: Store,
    files: Files,
    durability: str,
    read_only: bool,
    segment_bytes: int | None,
    mapped: bool,
    checkpoint_bytes: int | None,
    compress: bool,
    max_bytes: int | None,
) -> None:
    from mmsb.checkpoints import Checkpoints
    from mmsb.compact import sweep

    state._store = store
    log = state._log = FileLog(
        state, store, durability=durability, mapped=mapped, files=files, segment_bytes=segment_bytes
    )
    log.horizon = Horizon(files, os.path.join(store.path, "horizon"), store.uuid, writable=not read_only)
    checkpoints = state._checkpoints = Checkpoints(store, files, checkpoint_bytes, max_bytes)
    log.base = checkpoints.base(read_only=read_only)
    if not read_only:
        sweep(files, checkpoints, log.base)
    image = checkpoints.newest()
    recovery = Recovery(state, log, log.horizon, read_only=read_only)
    position, sources = None, {}
    if image is not None:
        image.load_into(state)
        position, sources = (image.segment, image.offset), image.sources
        log.anchors.start(image.anchor, *position, (image.seq, image.time_ns, image.last_crc, sources))
    if log.horizon.mark is not None:
        state.durable_seq = min(log.horizon.mark.durable_seq, state.seq)
    state.recovered = recovery.run(position, dict(sources))
    if log.horizon.mark is not None:
        state.durable_seq = min(log.horizon.mark.durable_seq, state.seq)
    if read_only:
        state._close_gate(read_only=True)
        state._start_engine()
        if recovery.last is not None:
            log.segments.append(recovery.last)
        return
    attach_last(log, recovery)
    log.horizon.mend()
    if compress:
        from mmsb.compression import Compressor

        store.compressor = Compressor(files, log.failures)
        for segment in log.segments[:-1]:
            # Of earlier sessions. Those that are not synced yet follow when they are.
            if segment not in log.unsynced:
                store.compressor.add(segment)
    state._sync_commits = durability == "power"
    state._wake_me()
    state._start_engine()


State._opener = staticmethod(open)
