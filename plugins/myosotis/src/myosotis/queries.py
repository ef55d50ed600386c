"""Questions about the past: history, blame, differences; and undoing a commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from myosotis.chain import Commit
from myosotis.containers import plain
from myosotis.errors import FieldNotFoundError, InvalidValueError, RevertError
from myosotis.exports import json_value, shown
from myosotis.graph import Node
from myosotis.layout import SOURCE
from myosotis.mutations import CreateNode, DeleteField, DeleteNode, Mutation, SetField, decode_all
from myosotis.store import Record, Store
from myosotis.values import ID_MOST, Value, check, check_key, check_text, encode

if TYPE_CHECKING:
    from myosotis.memory import Memory, When
    from myosotis.view import View


# ---- differences


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that differs. `old`, `new`: its values, ABSENT where there is no such field."""

    key: str
    old: Any
    new: Any


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node that differs: "created", "deleted" (now a tombstone), "changed" or "removed" (not there at all)."""

    id: int
    type: str
    kind: str
    fields: tuple[FieldChange, ...] = ()

    def lines(self) -> Iterator[str]:
        """The change as lines of text."""
        yield f"{_SIGNS[self.kind]} {self.type} {self.id} ({self.kind})"
        for change in self.fields:
            if change.old is not ABSENT:
                yield f"  - {change.key} = {shown(change.old)}"
            if change.new is not ABSENT:
                yield f"  + {change.key} = {shown(change.new)}"

    def to_dict(self) -> dict[str, Any]:
        """The change for JSON; a value that is absent is left out."""
        fields = {}
        for change in self.fields:
            sides = {"old": change.old, "new": change.new}
            fields[change.key] = {side: json_value(value) for side, value in sides.items() if value is not ABSENT}
        return {"id": self.id, "type": self.type, "kind": self.kind, "fields": fields}


_SIGNS = {"created": "+", "deleted": "x", "changed": "~", "removed": "-"}


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two moments, node by node, ids ascending. Falsy when nothing does."""

    nodes: tuple[NodeChange, ...] = field(default=())

    def __iter__(self) -> Iterator[NodeChange]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def to_dict(self) -> list[dict[str, Any]]:
        """The differences for JSON."""
        return [change.to_dict() for change in self.nodes]

    def __str__(self) -> str:
        return "\n".join(line for change in self.nodes for line in change.lines())


def compare_nodes(node_id: int, old: Node | None, new: Node | None) -> NodeChange:
    """How a node differs."""
    before, after = (old.fields if old else {}), (new.fields if new else {})
    fields = []
    for key in sorted({*before, *after}):
        a, b = before.get(key, ABSENT), after.get(key, ABSENT)
        if not same(a, b):
            fields.append(FieldChange(key, plain(a), plain(b)))
    kind = "changed"
    if old is None or new is None:
        kind = "created" if old is None else "removed"
    elif old.deleted != new.deleted:
        kind = "deleted" if new.deleted else "created"
    some = new or old
    return NodeChange(node_id, some.type if some else "", kind, tuple(fields))


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same to the last bit: 1, 1.0 and True are three, and so are 0.0 and -0.0."""
    if a is ABSENT or b is ABSENT:
        return a is b
    return encode(a) == encode(b)


def diff(memory: Memory, a: When | None, b: When | None) -> Diff:
    """See Memory.diff. Only nodes that some commit between the two touched are compared."""
    first = memory.head if a is None else memory.commit_id(a)
    old: View = memory.at(first)
    new: View = memory
    touched: set[int] = set()
    last = memory.head
    if b is None:
        touched.update(mutation.id for mutation in memory.pending)
    else:
        last = memory.commit_id(b)
        new = memory.at(last)
    for record in memory.store.records(min(first, last) + 1, max(first, last)):
        touched.update(mutation.id for mutation in decode_all(record.mutations))
    changes = []
    for node_id in sorted(touched):
        before, after = old.peek(node_id), new.peek(node_id)
        if before is None and after is None:
            continue
        change = compare_nodes(node_id, before, after)
        if change.kind != "changed" or change.fields:
            changes.append(change)
    return Diff(tuple(changes))


# ---- history


def _touching(store: Store, node_id: int, key: str | None) -> Iterator[Record]:
    """The commits that changed a node (a field of it), oldest first."""
    page_id = store.nodes.page_of(node_id)
    if page_id is None:
        return
    own = store.state.log(page=page_id, source=SOURCE, since=store.head.base_seq + 1)
    for record in store.records_at(commit.seq for commit in own):
        if any(concerns(mutation, node_id, key) for mutation in decode_all(record.mutations)):
            yield record


def concerns(mutation: Mutation, node_id: int, key: str | None) -> bool:
    """Whether a mutation changes a node, or a field of it."""
    if mutation.id != node_id:
        return False
    return key is None or (isinstance(mutation, SetField | DeleteField) and mutation.key == key)


def history(memory: Memory, node_id: int | None, key: str | None) -> list[Commit]:
    """See Memory.history."""
    if node_id is None:
        return [
            record.commit()
            for record in memory.store.records()
            if key is None or any(concerns(each, each.id, key) for each in decode_all(record.mutations))
        ]
    memory.get(node_id)
    return [record.commit() for record in _touching(memory.store, node_id, key)]


def blame(memory: Memory, node_id: int, key: str) -> Commit | None:
    """See Memory.blame."""
    node = memory.at(memory.head).get(node_id)
    if key not in node.fields:
        raise FieldNotFoundError(f"Field not found: {key}. Node {node_id} has no such field.", node_id=node_id, key=key)
    page_id = memory.store.nodes.page_of(node_id)
    own = memory.store.state.log(page=page_id, source=SOURCE, since=memory.store.head.base_seq + 1)
    for seq in reversed([commit.seq for commit in own]):
        for record in memory.store.records_at([seq]):
            if any(concerns(mutation, node_id, key) for mutation in decode_all(record.mutations)):
                return record.commit()
    return None


# ---- undoing


def revert(memory: Memory, commit_id: int, label: str | None) -> Commit:
    """See Memory.revert."""
    before, after = memory.at(commit_id - 1), memory.at(commit_id)
    mutations = next((decode_all(r.mutations) for r in memory.store.records(commit_id, commit_id)), ())
    undo: list[Mutation] = []
    for node_id in dict.fromkeys(mutation.id for mutation in mutations):
        change = compare_nodes(node_id, before.peek(node_id), after.peek(node_id))
        undo += list(_undo(memory, commit_id, change))
    label = f"Revert commit {commit_id}" if label is None else label
    with memory.commit_on_exit(label, {"reverts": commit_id}):
        memory.stage_all(undo)
        if not undo:
            raise RevertError(
                f"Commit {commit_id} changed nothing that could be undone.", commit=commit_id, node_id=None
            )
    return memory.commits_from(memory.head)[0]


def _undo(memory: Memory, commit_id: int, change: NodeChange) -> Iterator[Mutation]:
    node = memory.get(change.id)

    def refuse(why: str) -> RevertError:
        return RevertError(
            f"Commit {commit_id} cannot be undone: {why}. Change the node itself.", commit=commit_id, node_id=change.id
        )

    if change.kind == "deleted":
        raise refuse(f"it deleted node {change.id}, and a tombstone stays one")
    if node.deleted:
        raise refuse(f"node {change.id} was deleted since")
    for each in change.fields:
        if not same(node.fields.get(each.key, ABSENT), each.new):
            raise refuse(f"field {each.key!r} of node {change.id} was changed since")
    if change.kind == "created":
        yield DeleteNode(change.id)
        return
    for each in change.fields:
        if each.old is ABSENT:
            yield DeleteField(change.id, each.key)
        else:
            yield SetField(change.id, each.key, each.old)


# ---- from a dict


def load_dict(memory: Memory, graph: Mapping[int, Mapping[str, Any]]) -> None:
    """Commits what to_dict() gave to a memory that is empty. InvalidValueError, MissingReferenceError."""
    creates: list[Mutation] = []
    fields: list[Mutation] = []
    deletes: list[Mutation] = []
    for node_id in sorted(graph):
        node = graph[node_id]
        if type(node_id) is not int or not 0 <= node_id < ID_MOST:
            raise InvalidValueError(f"{node_id!r} is no node id.", path=repr(node_id))
        check_text(node["type"], f"{node_id}.type")
        creates.append(CreateNode(node_id, node["type"]))
        for key in sorted(node.get("fields", {})):
            value: Value = plain(node["fields"][key])
            check_key(key)
            check(value, f"{node_id}.{key}")
            fields.append(SetField(node_id, key, value))
        if node.get("deleted", False):
            deletes.append(DeleteNode(node_id))
    memory.stage_all([*creates, *fields, *deletes])
    if memory.pending:
        memory.commit("import")
