"""What verify finds, in words that a person can act on: what it is, where, what it means, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FAULT = "fault"  # history or state is not what it was
WARNING = "warning"  # something else is wrong, and nothing is lost

SALVAGE = (
    "Restore the store from a backup. Without one, `mmsb salvage {store} OUT` copies everything that is intact into a "
    "new store and lists what is missing."
)
# By kind: severity, what it means, what to do. {store}, {path}, {seq} and {before} (seq - 1) are filled in.
KINDS = {
    "log": (
        FAULT,
        "The history up to commit {before} is intact and can be read with read_only=True; commit {seq} and those after "
        "it cannot be replayed from here. Nothing was changed.",
        SALVAGE,
    ),
    "damage": (
        FAULT,
        "What this file says about the history is not certain any more, so the store is not opened for writing.",
        SALVAGE,
    ),
    "anchor": (
        FAULT,
        "A commit since the anchor before was changed after it was written, checksums and all, or the anchor key is "
        "another one. Pages that those commits write, and all that follows, are not to be trusted.",
        "Compare with a replica, a backup, or the anchor that you kept elsewhere. `mmsb salvage {store} OUT` takes "
        "only what the anchors prove.",
    ),
    "header": (
        FAULT,
        "The file was changed or replaced while it was open. What was read of it so far was right.",
        "Close the store and restore the file from a backup, then verify again.",
    ),
    "base": (
        FAULT,
        "The history begins with this state, so every state in the store is in doubt. Nothing older is there "
        "to compare it with.",
        "Restore the file from a backup. Without one, `mmsb salvage {store} OUT` begins with the next checkpoint "
        "that is intact.",
    ),
    "checkpoint": (
        FAULT,
        "The log is the truth, and it is intact here. Opening with this checkpoint would show a state that never was.",
        "Delete {path}. Nothing is lost: the next opening replays the log instead.",
    ),
    "unusable checkpoint": (
        WARNING,
        "No data is lost while the log is intact; opening and time travel take longer without it.",
        "Delete {path}, unless something else was found before commit {seq}: then keep it, and salvage first.",
    ),
    "checkpoint ahead": (
        WARNING,
        "The state at commit {seq} is whole, although the log does not lead there. The commits in between are missing.",
        "`mmsb salvage {store} OUT` saves it, and what of the log goes on from it. Do not delete {path}.",
    ),
    "memory": (
        FAULT,
        "The files are intact; the pages in this process are not what the log says. Something wrote to the memory past "
        "mmsb.",
        "Close the State without writing more, and open the store again: it is rebuilt from the log.",
    ),
    "head": (
        FAULT,
        "The commits after it are in the memory of this process and not in the log that was read.",
        "Close the State and open the store again; what was acknowledged and is missing then is lost.",
    ),
    "recompute": (
        FAULT,
        "The stored bytes and the log agree; what computes the page now is not what computed it then, or is no pure "
        "function of its parents.",
        "Register the right function with state.depend(), or let state.propagate() compute the page anew.",
    ),
    "identity": (
        FAULT,
        "Readers that have the store open go on; a new one may refuse it. The log carries the same uuid and salt.",
        "Restore this one file from a backup. Without one, `mmsb salvage {store} OUT` does without it.",
    ),
    "horizon": (
        WARNING,
        "A crash in the middle of a write leaves this, and no commit is lost: the other slot stands in for it.",
        "Open the store for writing and close it: both slots are written anew.",
    ),
    "leftover": (
        WARNING,
        "They belong to no commit that was ever durable: a crash cut a commit short there, or something else wrote "
        "them. All commits before them are intact.",
        "Open the store for writing and close it: a torn tail is saved under torn/ and zeroed. What stays, zero "
        "yourself.",
    ),
    "stranger": (
        WARNING,
        "mmsb neither reads nor writes it.",
        "Move {path} away.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `sentence`: what, and where; `meaning`: what of it is affected; `advice`: what to do.

    `kind`: a name of KINDS. `start`, `end`: bytes of page `page_id`.
    """

    kind: str
    sentence: str
    meaning: str
    advice: str
    severity: str = FAULT
    path: str | None = None
    offset: int | None = None
    seq: int | None = None
    page_id: int | None = None
    start: int | None = None
    end: int | None = None


@dataclass
class Report:
    """What was checked, and what was found wrong. No `findings` are a clean bill. `store`: its path, for advice."""

    store: str = "STORE"
    findings: list[Finding] = field(default_factory=list)
    segments: int = 0
    frames: int = 0
    commits: int = 0
    anchors: int = 0
    checkpoints: int = 0
    recomputed: int = 0

    def add(self, kind: str, sentence: str, **where: Any) -> None:
        """Notes a finding."""
        severity, meaning, advice = KINDS[kind]
        seq = where.get("seq")
        facts = {
            "store": self.store,
            "path": where.get("path") or "the file",
            "seq": "unknown" if seq is None else seq,
            "before": "unknown" if seq is None else seq - 1,
        }
        meaning, advice = meaning.format(**facts), advice.format(**facts)
        self.findings.append(Finding(kind, sentence, meaning, advice, severity, **where))
