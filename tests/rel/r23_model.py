"""R23: the stateful machines of tests/laws at release size: States, graphs and waves against their literal models.

Their rules close, kill and reopen, checkpoint, compact, fork and travel. Programs are drawn in bundles, each from a
seed of its own, so that a bundle alone can be run again; its failing program is made as short as possible first.
"""

from __future__ import annotations

import traceback
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.laws.test_engine_machine import Engine
from tests.laws.test_graph_machine import GraphMachine
from tests.laws.test_propagation_machine import Durable, Propagation
from tests.rel.programme import Measure, Part, Run

BUNDLE = 25  # programs


def machine(base: type[RuleBasedStateMachine], **facts: Any) -> type[RuleBasedStateMachine]:
    """A machine that counts its programs."""
    return type(base.__name__, (base,), facts)


MACHINES: dict[str, dict[str, type[RuleBasedStateMachine]]] = {
    "stored": {"stored": machine(Engine, durable=True)},
    "memory": {
        "memory": machine(Engine),
        "memory-avx2": machine(Engine, disable="avx512"),
        "memory-sse": machine(Engine, disable="avx2"),
        "memory-scalar": machine(Engine, disable="sse42"),
        "stored-scalar": machine(Engine, durable=True, disable="sse42"),
    },
    "graphs": {"graph": GraphMachine},
    "waves": {"waves": Propagation, "waves-stored": Durable},
}


def bundle(run: Run, name: str, kind: type[RuleBasedStateMachine], number: int, steps: int) -> None:
    """BUNDLE programs of so many steps."""
    case = f"{name}:{number}"
    if not run.wants(case):
        return
    seeded = hypothesis.seed(f"{run.seed}:{case}")(type(kind.__name__, (kind,), {}))
    how = settings(
        max_examples=BUNDLE,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    try:
        run_state_machine_as_test(seeded, settings=how)
    except Exception as found:  # whatever it is, the machine has found something
        for error in found.exceptions if isinstance(found, ExceptionGroup) else (found,):
            program = "; ".join(line.strip() for note in getattr(error, "__notes__", ()) for line in note.splitlines())
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} {error} at {where.filename}:{where.lineno}; {program}"
            run.fail("wrong", case, what[:2000])
    run.tally.injected += BUNDLE


def part(name: str, quick: int, full: int) -> Part:
    """`quick` programs of 50 steps, or `full` ones of 100, spread over the machines of a name."""

    def programs(run: Run) -> None:
        machines = MACHINES[name]
        bundles = -(-run.amount(quick, full) // BUNDLE)
        for number in range(bundles):
            run.progress(number, bundles)
            chosen = list(machines)[number % len(machines)]
            bundle(run, chosen, machines[chosen], number, run.amount(50, 100))

    return Part(name, programs, at_least=(quick, full))


MEASURE = Measure(
    "R23",
    "models at release size",
    (part("stored", 40, 5000), part("memory", 40, 5000), part("graphs", 75, 5000), part("waves", 75, 5000)),
    files=("tests/laws/*.py",),
)
