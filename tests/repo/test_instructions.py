"""The guard that counts instructions: dumps are read right, and what grew is named with the functions that did."""

import importlib
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "ci/benchmarks"
DUMP = """# callgrind format
desc: Trigger: Client Request: 10:page.write

fl=(1) a.c
fn=(1) first
16 400
+2 100
cfn=(2) _PyObject_Malloc
calls=30 9
16 5000
fn=(2)
9 300
cfn=(3) malloc'2
calls=10 0
* 900
fn=(1)
20 200
"""


@pytest.fixture
def guard(monkeypatch):
    monkeypatch.syspath_prepend(SOURCES)
    return importlib.import_module("instructions")


def test_a_dump_gives_costs_by_function_and_allocations(guard, tmp_path):
    (tmp_path / "out.1").write_text(DUMP)
    name, count = guard.parse(tmp_path / "out.1")
    assert name == "page.write"
    assert count.instructions == 100.0 and count.allocations == 4.0
    assert count.functions == {"first": 70.0, "_PyObject_Malloc": 30.0}


def test_a_dump_between_operations_has_no_name(guard, tmp_path):
    (tmp_path / "out.2").write_text(DUMP.replace("10:page.write", "between"))
    assert guard.parse(tmp_path / "out.2")[0] == ""


@pytest.mark.parametrize(
    ("instructions", "allocations", "said"),
    [(1030, 2, []), (1040, 2, ["1,000 -> 1,040", "slow +90"]), (900, 2, []), (1000, 3, ["2 -> 3 allocations"])],
)
def test_what_grew_is_named(guard, instructions, allocations, said):
    now = {"write": guard.Count(instructions, allocations, {"slow": 190, "fast": 10})}
    lines = guard.compare(now, {"write": {"instructions": 1000, "allocations": 2, "functions": {"slow": 100}}})
    assert bool(lines) == bool(said) and all(part in lines[0] for part in said)


def test_operations_that_one_side_lacks_are_named(guard):
    count = guard.Count(1, 1, {})
    assert len(guard.compare({"new": count}, {"old": vars(count)})) == 2
