"""Every call of the API against a model of dicts, with reopening and crashes at any moment."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from myosotis import ABSENT, Memory, Ref
from myosotis.errors import (
    CommitNotFoundError,
    FieldNotFoundError,
    InvalidCompactionTargetError,
    InvalidValueError,
    MissingReferenceError,
    NodeDeletedError,
    NodeNotFoundError,
    NothingToCommitError,
    ReadOnlyError,
    RevertError,
    UncommittedChangesError,
)
from myosotis.graph import Graph, Node

KEYS = st.sampled_from(["a", "b", "goal", "id", "type", "é", "\uffff", "\U00010000", ""])
SCALARS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=5
)
BAD_VALUES = st.sampled_from([2**63, float("nan"), float("-inf"), "\ud800", None, b"x", (1,), [1, {"k": {2}}], {1: 2}])
LABELS = st.none() | st.sampled_from(["", "one", "two", "long " * 50])
PICK = st.integers(0, 1 << 30)


def hash_of(graph: dict[int, dict[str, Any]]) -> str:
    nodes = {i: Node(i, node["type"], node["fields"], node["deleted"]) for i, node in graph.items()}
    return Graph(nodes).state_hash().hex()


def targets(value: Any) -> list[int]:
    if isinstance(value, Ref):
        return [value.id]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [target for item in items for target in targets(item)]


def exact(value: Any) -> Any:
    """A value in which 1, 1.0 and True differ, and 0.0 and -0.0."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    return [exact(item) for item in value] if isinstance(value, list | tuple) else (type(value).__name__, repr(value))


class Machine(RuleBasedStateMachine):
    suffix = ".myo"

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="myosotis-")
        self.places = 0
        self.path = self._place()
        # Snapshots after each commit (the first: before all), labels, and what is staged.
        self.past: list[dict[int, dict[str, Any]]] = [{}]
        self.labels: list[str | None] = [None]
        self.times: list[datetime | None] = [None]
        self.base = 0
        self.graph: dict[int, dict[str, Any]] = {}
        self.staged = 0
        self.touched: list[set[tuple[int, str | None]]] = [set()]
        self.now: set[tuple[int, str | None]] = set()
        self.set_at: dict[tuple[int, str], int] = {}
        self.next_id = 1
        self.told: list[int] = []

    def _place(self) -> str:
        self.places += 1
        folder = os.path.join(self.root, str(self.places))
        os.mkdir(folder)
        return os.path.join(folder, "state" + self.suffix)

    @initialize()
    def open(self) -> None:
        self.memory = Memory.open(self.path)
        self._listen()

    def _listen(self) -> None:
        self.memory.subscribe(lambda commit: self.told.append(commit.id))

    def teardown(self) -> None:
        if hasattr(self, "memory"):
            self.memory.close()
        shutil.rmtree(self.root)

    # ---- what the model does

    @property
    def head(self) -> int:
        return len(self.past) - 1

    def _pick(self, number: int, *, live: bool = True) -> int | None:
        ids = [i for i in sorted(self.graph) if not (live and self.graph[i]["deleted"])]
        return ids[number % len(ids)] if ids else None

    def _set(self, node_id: int, key: str, value: Any) -> None:
        self.graph[node_id]["fields"][key] = copy.deepcopy(value)
        self.now.add((node_id, key))
        self.staged += 1

    def _committed(self, label: str | None, time: datetime | None = None) -> None:
        self.past.append(copy.deepcopy(self.graph))
        self.labels.append(label)
        self.times.append(time)
        self.touched.append(self.now)
        for node_id, key in self.now:
            if key is not None:
                self.set_at[node_id, key] = self.head
        self.now, self.staged = set(), 0

    def _drop(self) -> None:
        self.graph = copy.deepcopy(self.past[-1])
        self.now, self.staged = set(), 0

    # ---- changes

    @rule(kind=st.sampled_from(["Agent", "Task", ""]), fields=st.dictionaries(KEYS, VALUES, max_size=3))
    def create(self, kind: str, fields: dict[str, Any]) -> None:
        node = self.memory.create(kind, **fields)
        assert (node.id, node.type, node.deleted) == (self.next_id, kind, False)
        self.next_id += 1
        self.graph[node.id] = {"type": kind, "fields": {}, "deleted": False}
        self.now.add((node.id, None))
        self.staged += 1
        for key, value in fields.items():
            self._set(node.id, key, value)

    @rule(number=PICK, key=KEYS, value=VALUES)
    def set(self, number: int, key: str, value: Any) -> None:
        node_id = self._pick(number, live=False)
        if node_id is None:
            return
        if self.graph[node_id]["deleted"]:
            with pytest.raises(NodeDeletedError):
                self.memory[node_id][key] = value
            return
        if key in ("a", "b", "goal", "é"):
            setattr(self.memory[node_id], key, value)
        else:
            self.memory[node_id][key] = value
        self._set(node_id, key, value)

    @rule(number=PICK, key=KEYS, value=VALUES)
    def set_same(self, number: int, key: str, value: Any) -> None:
        node_id = self._pick(number)
        if node_id is not None and key in self.graph[node_id]["fields"]:
            self.memory[node_id].update({key: self.memory[node_id][key]})
            self._set(node_id, key, self.graph[node_id]["fields"][key])

    @rule(number=PICK, other=PICK, key=KEYS, nested=st.booleans())
    def refer(self, number: int, other: int, key: str, nested: bool) -> None:
        node_id, target = self._pick(number), self._pick(other, live=False)
        if node_id is None or target is None:
            return
        handle = self.memory.node(target)
        self.memory[node_id][key] = [1, {"to": handle}] if nested else handle
        self._set(node_id, key, [1, {"to": Ref(target)}] if nested else Ref(target))

    @rule(number=PICK, value=BAD_VALUES)
    def refuse_value(self, number: int, value: Any) -> None:
        node_id = self._pick(number)
        with pytest.raises(InvalidValueError):
            self.memory.create("Agent", good=1, bad=value)
        if node_id is not None:
            with pytest.raises(InvalidValueError):
                self.memory[node_id]["a"] = value
            with pytest.raises(MissingReferenceError):
                self.memory[node_id].update({"a": 1, "b": [Ref(self.next_id + 5)]})

    @rule(number=PICK, key=KEYS)
    def delete_field(self, number: int, key: str) -> None:
        node_id = self._pick(number)
        if node_id is None:
            return
        if key not in self.graph[node_id]["fields"]:
            with pytest.raises(FieldNotFoundError):
                del self.memory[node_id][key]
            return
        del self.memory[node_id][key]
        del self.graph[node_id]["fields"][key]
        self.now.add((node_id, key))
        self.staged += 1

    @rule(number=PICK)
    def delete(self, number: int) -> None:
        node_id = self._pick(number, live=False)
        if node_id is None:
            with pytest.raises(NodeNotFoundError):
                self.memory.delete(self.next_id)
            return
        if self.graph[node_id]["deleted"]:
            with pytest.raises(NodeDeletedError):
                self.memory.delete(node_id)
            return
        self.memory.delete(self.memory[node_id])
        self.graph[node_id]["deleted"] = True
        self.now.add((node_id, None))
        self.staged += 1

    @rule(
        number=PICK, place=PICK, value=VALUES, what=st.sampled_from(["append", "insert", "set", "del", "slice", "bad"])
    )
    def change_list(self, number: int, place: int, value: Any, what: str) -> None:
        found = [
            (i, key, path)
            for i, node in sorted(self.graph.items())
            if not node["deleted"]
            for key in sorted(node["fields"])
            for path in self._containers(node["fields"][key])
        ]
        if not found:
            return
        node_id, key, path = found[number % len(found)]
        tracked, model = self.memory[node_id][key], self.graph[node_id]["fields"][key]
        for step in path:
            tracked, model = tracked[step], model[step]
        if what == "bad":
            with pytest.raises(InvalidValueError):
                tracked.update({"k": b""}) if isinstance(model, dict) else tracked.extend([1, b""])
            return
        if isinstance(model, dict):
            self._change_map(tracked, model, place, value, what)
        elif what in ("append", "insert") or not model:
            at = len(model) if what == "append" else place % (len(model) + 1)
            tracked.insert(at, value)
            model.insert(at, copy.deepcopy(value))
        elif what == "set":
            tracked[place % len(model)] = value
            model[place % len(model)] = copy.deepcopy(value)
        elif what == "del":
            del tracked[place % len(model)]
            del model[place % len(model)]
        else:
            tracked[1:3] = [value, 7]
            model[1:3] = [copy.deepcopy(value), 7]
        self.now.add((node_id, key))
        self.staged += 1

    def _change_map(self, tracked: Any, model: dict[str, Any], place: int, value: Any, what: str) -> None:
        if what == "del" and model:
            key = sorted(model)[place % len(model)]
            del tracked[key]
            del model[key]
        elif what == "slice":
            tracked.clear()
            model.clear()
        else:
            tracked[what] = value
            model[what] = copy.deepcopy(value)

    def _containers(self, value: Any) -> list[list[Any]]:
        if not isinstance(value, list | dict):
            return []
        inner = sorted(value.items()) if isinstance(value, dict) else enumerate(value)
        return [[], *([step, *path] for step, item in inner for path in self._containers(item))]

    # ---- commits

    @rule(label=LABELS, author=st.none() | st.text(max_size=3), seconds=st.none() | st.integers(0, 2 * 10**9))
    def commit(self, label: str | None, author: str | None, seconds: int | None) -> None:
        meta = None if author is None else {"author": author, "n": [1, None]}
        if self.staged == 0:
            with pytest.raises(NothingToCommitError):
                self.memory.commit(label)
            return
        time = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
        commit = self.memory.commit(label, meta=meta, timestamp=time)
        self._committed(label, time)
        assert (commit.id, commit.label, commit.hash) == (self.head, label, self.memory.commits()[-1].hash)
        assert commit == self.memory.history()[-1]
        expected = {**(meta or {}), **({} if time is None else {"timestamp": time.isoformat()})}
        assert commit.meta == expected
        assert self.told[-1] == commit.id

    @rule(value=SCALARS, fail=st.booleans())
    def commit_on_exit(self, value: Any, fail: bool) -> None:
        if self.staged:
            with pytest.raises(UncommittedChangesError), self.memory.commit_on_exit("x"):
                raise AssertionError("the block must not be entered")
            return
        try:
            with self.memory.commit_on_exit("block"):
                node = self.memory.create("Block", value=value)
                self.next_id += 1
                if fail:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert node.id not in self.memory.ids()
            return
        self.graph[node.id] = {"type": "Block", "fields": {}, "deleted": False}
        self.now.add((node.id, None))
        self._set(node.id, "value", value)
        self._committed("block")

    @rule()
    def discard(self) -> None:
        self.memory.discard()
        self._drop()

    @rule()
    def keep_staged_and_reopen(self) -> None:
        self.memory.keep_staged()
        self._reopen()

    @rule()
    def reopen(self) -> None:
        self.memory.discard()
        self._drop()
        self._reopen()

    def _reopen(self) -> None:
        self.memory.close()
        self.memory.close()
        self.memory = Memory.open(self.path)
        self._listen()
        self.next_id = self.memory.next_node_id

    @rule()
    def crash(self) -> None:
        """What the files say at this moment is what a killed process would leave."""
        path = self._place()
        self.memory.discard()
        self._drop()
        shutil.copytree(os.path.dirname(self.path), os.path.dirname(path), dirs_exist_ok=True)
        self.memory.close()
        self.path = path
        self.memory = Memory.open(path)
        self._listen()
        self.next_id = self.memory.next_node_id

    @rule()
    def flush(self) -> None:
        self.memory.flush()
        if self.suffix == ".myo":
            shutil.copy(self.path, self.path + ".alone")
            with Memory.open(self.path + ".alone", read_only=True) as alone:
                assert alone.state_hash() == hash_of(self.past[-1])
                assert [c.hash for c in alone.commits()] == [c.hash for c in self.memory.commits()]

    @rule()
    def read_elsewhere(self) -> None:
        with Memory.open(self.path, read_only=True) as reader:
            assert exact(reader.to_dict()) == exact(self.past[-1])
            with pytest.raises(ReadOnlyError):
                reader.create("Agent")

    @rule(number=PICK)
    def compact(self, number: int) -> None:
        target = self.base + number % (self.head - self.base + 1)
        if self.staged:
            with pytest.raises(UncommittedChangesError):
                self.memory.compact(target)
            return
        if target == self.base:
            with pytest.raises(InvalidCompactionTargetError):
                self.memory.compact(target)
            return
        done = self.memory.compact(target)
        labels = [(i, self.labels[i]) for i in range(self.base + 1, target + 1) if self.labels[i] is not None]
        assert list(done.labels) == labels
        assert self.memory.folded_labels()[len(self.memory.folded_labels()) - len(labels) :] == labels
        self.base = target

    # ---- the past

    @precondition(lambda self: self.head > self.base)
    @rule(number=PICK, other=PICK)
    def look_back(self, number: int, other: int) -> None:
        when = self.base + number % (self.head - self.base + 1)
        moment = self.memory.at(when)
        assert exact(moment.to_dict()) == exact(self.past[when])
        assert self.memory.state_hash(when) == moment.state_hash() == hash_of(self.past[when])
        for node in moment:
            for key, value in node.items():
                if hasattr(value, "deleted"):
                    assert value.type == self.past[when][value.id]["type"], key
        with pytest.raises(ReadOnlyError):
            moment.handle(1)["a"] = 1
        node_id = self._pick(other, live=False)
        if node_id is not None:
            assert (moment.peek(node_id) is not None) == (node_id in self.past[when])

    @rule(label=st.sampled_from(["", "one", "two", "long " * 50, "block", "never"]))
    def look_by_label(self, label: str) -> None:
        found = [i for i in range(self.base, self.head + 1) if self.labels[i] == label]  # also where history begins
        if found:
            assert self.memory.at(label).id == found[-1]
        else:
            with pytest.raises(CommitNotFoundError):
                self.memory.at(label)

    @rule(seconds=st.integers(0, 2 * 10**9))
    def look_by_time(self, seconds: int) -> None:
        moment = datetime.fromtimestamp(seconds, UTC)
        found = [
            i for i in range(self.base + 1, self.head + 1) if self.times[i] is not None and self.times[i] <= moment
        ]
        if any(self.times) and found:  # the others were made now, and so later than any of these times or not at all
            untimed = [i for i in range(self.base + 1, self.head + 1) if self.times[i] is None]
            if not untimed or seconds < 1_600_000_000:
                assert self.memory.at(moment).id == found[-1]

    @rule(number=PICK, key=KEYS)
    def ask_history(self, number: int, key: str) -> None:
        node_id = self._pick(number, live=False)
        if node_id is None:
            return
        commits = range(self.base + 1, self.head + 1)
        whole = [i for i in commits if any(touched == node_id for touched, _ in self.touched[i])]
        assert [commit.id for commit in self.memory.history(node_id)] == whole
        of_field = [i for i in commits if (node_id, key) in self.touched[i]]
        assert [commit.id for commit in self.memory.history(node_id, key)] == of_field
        if node_id not in self.past[-1]:
            return
        if key in self.past[-1][node_id]["fields"]:
            blamed = self.memory.blame(node_id, key)
            at = self.set_at[node_id, key]
            assert (None if blamed is None else blamed.id) == (at if at > self.base else None)
        else:
            with pytest.raises(FieldNotFoundError):
                self.memory.blame(node_id, key)

    @rule(first=PICK, second=PICK, now=st.booleans())
    def ask_diff(self, first: int, second: int, now: bool) -> None:
        a = self.base + first % (self.head - self.base + 1)
        b = self.base + second % (self.head - self.base + 1)
        old, new = self.past[a], self.graph if now else self.past[b]
        changed = {}
        for node_id in sorted({*old, *new}):
            before, after = old.get(node_id), new.get(node_id)
            if exact(before) == exact(after):
                continue
            fields = {}
            ours, theirs = (before or {"fields": {}})["fields"], (after or {"fields": {}})["fields"]
            for key in sorted({*ours, *theirs}):
                pair = ours.get(key, ABSENT), theirs.get(key, ABSENT)
                if exact(pair[0]) != exact(pair[1]):
                    fields[key] = pair
            changed[node_id] = fields
        diff = self.memory.diff(a, None if now else b)
        assert [change.id for change in diff] == list(changed)
        for change in diff:
            found = {each.key: (each.old, each.new) for each in change.fields}
            assert exact(found) == exact(changed[change.id])
        assert bool(str(diff)) == bool(changed) == bool(diff.to_dict())

    @precondition(lambda self: self.head > self.base)
    @rule(number=PICK)
    def revert(self, number: int) -> None:
        when = self.base + 1 + number % (self.head - self.base)
        if self.staged:
            with pytest.raises(UncommittedChangesError):
                self.memory.revert(when)
            return
        before, after = self.past[when - 1], self.past[when]
        try:
            commit = self.memory.revert(when)
        except RevertError as error:
            assert error.commit == when
            return
        for node_id, node in after.items():
            if node_id not in before:
                self.graph[node_id]["deleted"] = True
                self.now.add((node_id, None))
                continue
            ours, theirs = before[node_id]["fields"], node["fields"]
            for key in {*ours, *theirs}:
                if exact(ours.get(key, ABSENT)) == exact(theirs.get(key, ABSENT)):
                    continue
                assert exact(self.past[-1][node_id]["fields"].get(key, ABSENT)) == exact(theirs.get(key, ABSENT))
                self.now.add((node_id, key))
                if key in ours:
                    self.graph[node_id]["fields"][key] = copy.deepcopy(ours[key])
                else:
                    del self.graph[node_id]["fields"][key]
        self._committed(commit.label)
        assert commit.id == self.head

    @rule(number=PICK, stored=st.booleans())
    def fork(self, number: int, stored: bool) -> None:
        when = self.base + number % (self.head - self.base + 1)
        with self.memory.fork(when, self._place() if stored else None) as fork:
            assert exact(fork.to_dict()) == exact(self.past[when])
            assert fork.commits() == self.memory.commits()[: when - self.base]
            fork.create("Elsewhere")
            fork.commit("elsewhere")
            assert fork.verify().ok

    # ---- the whole

    @rule(number=PICK)
    def ask_graph(self, number: int) -> None:
        live = [i for i in sorted(self.graph) if not self.graph[i]["deleted"]]
        assert [node.id for node in self.memory] == live
        assert len(self.memory) == len(live)
        agents = [i for i in live if self.graph[i]["type"] == "Agent"]
        assert [node.id for node in self.memory.nodes(type="Agent")] == agents
        node_id = self._pick(number, live=False)
        if node_id is None:
            return
        referring = [i for i in live if node_id in targets(self.graph[i]["fields"])]
        assert [node.id for node in self.memory.referrers(node_id)] == referring
        reached, waiting = {node_id}, [node_id]
        while waiting:
            for target in targets(self.graph[waiting.pop()]["fields"]):
                if target not in reached:
                    reached.add(target)
                    waiting.append(target)
        for order in ("breadth", "depth"):
            walked = [node.id for node in self.memory.walk(node_id, order)]
            assert walked[0] == node_id and sorted(walked) == sorted(reached)

    @rule()
    def from_dict(self) -> None:
        try:
            with Memory.from_dict(self.memory.to_dict()) as made:
                assert exact(made.to_dict()) == exact(self.graph)
        except NodeDeletedError:
            raise AssertionError("tombstones are restored last") from None

    @rule()
    def verify(self) -> None:
        found = self.memory.verify()
        assert found.ok and found.commits == self.head - self.base, found.sentence()

    @invariant()
    def same(self) -> None:
        if hasattr(self, "memory"):
            assert exact(self.memory.to_dict()) == exact(self.graph)
            assert self.memory.state_hash() == hash_of(self.graph)
            assert self.memory.head == self.head
            assert self.memory.next_node_id == self.next_id


class StoreMachine(Machine):
    suffix = ".mmsb"


EXAMPLES = int(os.environ.get("MYO_EXAMPLES", "15"))
how = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# Some of the numbers are such as the first engine misreads.
quiet = pytest.mark.filterwarnings("ignore::myosotis.errors.FirstEngineWarning")
TestFile = quiet(Machine.TestCase)
TestFile.settings = how
TestStore = quiet(StoreMachine.TestCase)
TestStore.settings = how
