"""Traces: when a State committed, computed waves, synced and wrote checkpoints, for Perfetto and chrome://tracing.

Commits and waves are read from the log when the trace ends; while it runs, a commit costs one note of the time. The
file is in the Trace Event Format, as JSON:
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
import os
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmsb.errors import RetentionError

if TYPE_CHECKING:
    from mmsb.history import Commit
    from mmsb.state import State

# Rows of the picture: the work behind commits, waves, then one row for each source in the order they appear.
ROWS = {"sync": 1, "checkpoint": 2, "waves": 3}
PAGES_SHOWN = 8


class Trace:
    """A trace of one State under way. Made by State.trace; close it, or leave its `with` block, to write the file.

    `commits`, `left_out`: how many commits the file holds, and how many more there were; known once it is written.
    """

    def __init__(self, state: State, path: str | os.PathLike[str], limit: int) -> None:
        self.path = os.fspath(path)
        self.commits = self.left_out = 0
        self._state = state
        self._limit = limit
        self._file = open(self.path, "w", encoding="utf-8")  # noqa: SIM115 - kept open until close()
        self._first_seq = state.seq + 1
        self._begun = time.time_ns()
        self._seen: list[tuple[int, int]] = []  # (commits visible, when)
        self._spans: list[tuple[str, int, int]] = []  # (row, from, to)
        self._rows = dict(ROWS)
        self._newest: dict[str, Any] = {}  # span of the newest commit, after which its wave comes

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether it has ended, and the file is written."""
        return self._file.closed

    def _visible(self) -> None:
        """What was committed up to now is visible, and its wave is done."""
        seq = self._state._applied_seq
        if seq - self._first_seq < self._limit:
            self._seen.append((seq, time.time_ns()))

    @contextmanager
    def _span(self, row: str) -> Iterator[None]:
        begun = time.time_ns()
        try:
            yield
        finally:
            self._spans.append((row, begun, time.time_ns()))

    def close(self) -> None:
        """Ends the trace and writes the file. May be called again. OSError when it cannot be written."""
        if self.closed:
            return
        self._state._end_trace(self)
        with self._file as file:
            file.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
            for event in self._events():
                file.write(json.dumps(event) + ",\n")
            facts = {"commits": self.commits, "commits_left_out": self.left_out, "begun_ns": self._begun}
            file.write(json.dumps(self._about("process_name", 0, f"mmsb {self._state!r}")) + "\n],\n")
            file.write(f'"otherData": {json.dumps(facts)}}}\n')

    # ---- events

    def _events(self) -> Iterator[dict[str, Any]]:
        for row, begun, ended in self._spans:
            yield self._complete(row, row, begun, ended)
        together: list[Commit] = []  # a commit and its waves, which have its timestamp
        begun = 0
        self._seen.sort()
        for commit in self._logged():
            when = self._when(commit)
            if together and when > begun:
                for one in together:
                    yield from self._commit(one, begun, when)
                together.clear()
            together.append(commit)
            begun = when
        for one in together:
            yield from self._commit(one, begun, 1 << 64)
        for row, number in self._rows.items():
            yield self._about("thread_name", number, row)
            yield self._about("thread_sort_index", number, number)

    def _logged(self) -> Iterator[Commit]:
        """The commits since the beginning of the trace that are still kept, up to the limit."""
        state = self._state
        last = state.seq
        first = max(self._first_seq, state.first_seq + 1)
        until = min(last, first + self._limit - 1)
        try:
            for commit in state.log(since=first, until=until) if first <= until else ():
                self.commits += 1
                yield commit
        except RetentionError:
            pass  # a history in memory that is cut while it is read: what was cut is counted
        self.left_out = last - self._first_seq + 1 - self.commits

    def _noted(self, seq: int) -> int | None:
        """When a commit was first seen to be visible."""
        at = bisect_left(self._seen, (seq, 0))
        return self._seen[at][1] if at < len(self._seen) else None

    def _when(self, commit: Commit) -> int:
        """When a commit began. The timestamps of a State with a clock of its own say nothing about that."""
        if not self._state._own_clock:
            return commit.time_ns
        return self._noted(commit.seq) or self._begun

    def _commit(self, commit: Commit, begun: int, next_begun: int) -> Iterator[dict[str, Any]]:
        """A commit or wave: from its timestamp to where both were visible, or the next commit began."""
        seq, cause, row = commit.seq, commit.cause, commit.source or "no source"
        deltas = commit.deltas
        pages = list(dict.fromkeys(delta.page_id for delta in deltas))
        facts: dict[str, Any] = {"seq": seq, "deltas": len(deltas), "log_bytes": commit.nbytes}
        facts |= {"time_ns": commit.time_ns, "pages": pages[:PAGES_SHOWN], "pages_in_all": len(pages)}
        if commit.label is not None:
            facts["label"] = commit.label
        if cause is not None:
            row = "waves"
            facts["cause"] = cause
        else:
            row = f"commits: {row}"
        ended = min(self._noted(seq) or begun, next_begun)
        name = commit.label or (f"wave of {cause}" if cause is not None else f"commit {seq}")
        event = self._complete(row, name, begun, ended)
        yield event | {"args": facts}
        if cause is None:
            self._newest = event | {"seq": seq}
        elif cause == self._newest.get("seq"):
            yield self._arrow("s", cause, self._newest)
            yield self._arrow("f", cause, event) | {"bp": "e"}

    def _arrow(self, end: str, cause: int, event: dict[str, Any]) -> dict[str, Any]:
        """One end of the arrow from a commit to its wave."""
        place = {key: event[key] for key in ("pid", "tid", "ts")}
        return {"ph": end, "cat": "wave", "name": "sets off", "id": cause} | place

    def _complete(self, row: str, name: str, begun: int, ended: int) -> dict[str, Any]:
        """A span. Times are in microseconds since the beginning of the trace."""
        number = self._rows.setdefault(row, len(self._rows) + 1)
        return {
            "ph": "X",
            "cat": row.partition(":")[0],
            "name": name,
            "pid": os.getpid(),
            "tid": number,
            "ts": max(begun - self._begun, 0) / 1000,
            "dur": max(ended - begun, 0) / 1000,
        }

    def _about(self, what: str, row: int, value: str | int) -> dict[str, Any]:
        """A name for the process or a row."""
        key = "sort_index" if what.endswith("sort_index") else "name"
        return {"ph": "M", "name": what, "pid": os.getpid(), "tid": row, "args": {key: value}}
