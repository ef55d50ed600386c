"""What is sound in a v1 file, damaged or not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmsb.errors import MMSBError
from myosotis import v1, v1_shape
from myosotis.chain import Commit
from myosotis.errors import MyosotisError
from myosotis.graph import Graph
from myosotis.mutations import SetField
from myosotis.v1_parse import Link, parse_link
from myosotis.v1_text import misread_floats
from myosotis.values import ID_MOST

COMMA = re.compile(r"\s*,\s*")


@dataclass(frozen=True, slots=True)
class Report:
    """What `examine` found.

    `error` is the first fault (None: there is none), `first_bad` the id of the first commit that is not sound (None:
    all are, or the fault is elsewhere), `survivors` the memory up to there, `misread` how many numbers the first engine
    would read as others.
    """

    error: MyosotisError | None
    first_bad: int | None
    survivors: v1.Document
    misread: int

    @property
    def ok(self) -> bool:
        """Whether the file is sound."""
        return self.error is None

    def sentence(self) -> str:
        """The finding, for people."""
        return verdict(len(self.survivors.commits), self.error, self.first_bad)


def verdict(sound: int, error: MMSBError | None, first_bad: int | None) -> str:
    """What a check of a memory found, for people: how many commits are `sound`, what is wrong and where."""
    commits = f"{sound} commit{'s' if sound != 1 else ''}"
    if error is None:
        return f"All is well: {commits}, replayed from the first to the last."
    bad = "" if first_bad is None else f" The first bad record is commit {first_bad}."
    return f"{error.message}{bad} {commits} before it survive{'s' if sound == 1 else ''}."


def examine(data: bytes) -> Report:
    """Reads a file strictly and says what of it is sound."""
    error: MyosotisError | None = None
    try:
        survivors, first_bad = v1.read(data), None
    except MyosotisError as fault:
        error = fault
        survivors, first_bad = sound_prefix(data)
    misread = sum(
        1
        for commit in survivors.commits
        for mutation in commit.mutations
        if isinstance(mutation, SetField)
        for _ in misread_floats(mutation.value)
    )
    return Report(error, first_bad, survivors, misread)


def sound_prefix(data: bytes) -> tuple[v1.Document, int | None]:
    """The commits from the first on that form a chain and replay, and the id of the first that does not.

    Works on any bytes: what cannot be read ends the prefix. Checkpoints are left out, for they can be made again.
    """
    text = data.decode(errors="surrogateescape")
    genesis = _genesis(text)
    graph = Graph() if genesis is None else genesis.copy()
    parent = None if genesis is None else genesis.state_hash()
    commits: list[Commit] = []
    first_bad: int | None = None
    for link in _links(text):
        last = commits[-1].id if commits else None
        sound = (
            link.parent == last and link.id == (link.id if last is None else last + 1) and link.parent_hash == parent
        )
        if not sound or link.content_hash != link.hash:
            first_bad = link.id
            break
        try:
            graph.replay(link.mutations)
        except MyosotisError:
            first_bad = link.id
            graph = v1.replay(genesis, commits)  # without the half of this commit that went well
            break
        parent = link.hash
        commits.append(v1.as_commit(link))
    beyond = max(graph.nodes, default=0) + 1
    return v1.Document(genesis, commits, [], max(beyond, _next_node_id(text)), graph), first_bad


def _value(text: str, at: int) -> tuple[Any, int]:
    """The JSON value that begins here and where it ends; ValueError."""
    try:
        return json.JSONDecoder().raw_decode(text, at)
    except RecursionError:
        raise ValueError from None


def _field(text: str, name: str) -> Any:
    """The value of the first field of this name; None when there is none, or none that can be read."""
    found = re.search(rf'"{name}"\s*:\s*', text)
    try:
        return None if found is None else _value(text, found.end())[0]
    except ValueError:
        return None


def _genesis(text: str) -> Graph | None:
    item = _field(text, "genesis_state")
    try:
        return None if item is None else v1_shape.graph(item, "genesis_state", 2)
    except MyosotisError:
        return None


def _next_node_id(text: str) -> int:
    item = _field(text, "next_node_id")
    return item if type(item) is int and 0 < item <= ID_MOST else 1


def _links(text: str) -> Iterator[Link]:
    """The commits, as far as they can be read."""
    found = re.search(r'"commits"\s*:\s*\[\s*', text)
    index = 0
    while found is not None:
        try:
            item, at = _value(text, found.end())
            yield parse_link(item, index)
        except ValueError:  # what has no shape is one as well
            return
        index += 1
        found = COMMA.match(text, at)
