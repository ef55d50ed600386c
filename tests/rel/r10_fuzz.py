"""R10: fuzzing of everything that reads bytes from outside. C targets of tests/fuzz with the sanitizers, and the
decoders that are written in Python."""

from __future__ import annotations

import shutil
from functools import partial

from tests.fuzz import engine
from tests.rel import decoders
from tests.rel.programme import CORE, Measure, Part, Run

EXECUTIONS = (10**6, 10**8)
ENGINE = ("tests/fuzz/engine.py", "tests/fuzz/driver.c", "tests/fuzz/*.h", "tests/c/*.h", "tests/csrc.py")
SHORT = 64  # bytes of an input in quick: short ones take less time
# How many each decoder gets in quick and in full: about 3 seconds, and about 5 minutes, of one core.
DECODERS = {
    "checkpoint": (6_000, 600_000),
    "checkpoint-inside": (5_000, 500_000),
    "horizon": (20_000, 2_000_000),
    "zstd": (2_000, 200_000),
    "metadata": (60_000, 6_000_000),
    "links": (60_000, 6_000_000),
    "messages": (60_000, 6_000_000),
    "upstream-log": (6_000, 600_000),
    "upstream-checkpoint": (5_000, 500_000),
}


def fuzz_target(run: Run, target: str) -> None:
    """So many executions of a C target. A case is a file with an input."""
    try:
        _, _, guided = engine.toolchain()
    except LookupError as error:
        run.tally.skipped = str(error)
        return
    kept = engine.BUILD / "crashes" / target
    kept.mkdir(parents=True, exist_ok=True)
    count, fresh = run.amount(*EXECUTIONS), run.work / "corpus"
    fresh.mkdir()
    longest = min(engine.TARGETS[target], run.amount(SHORT, engine.TARGETS[target]))
    options = [f"-runs={count}", f"-seed={run.seed}", f"-max_len={longest}", "-timeout=10", "-entropic=0"]
    options += ["-print_final_stats=1", f"-artifact_prefix={run.work}/", str(fresh) if guided else ""]
    arguments = [run.case] if run.case else [*filter(None, options), *engine.corpora(target)]
    status, executed, last = engine.run(target, arguments, lambda done: run.progress(done, count))
    run.tally.injected = executed
    run.tally.figures = {"engine": "libFuzzer" if guided else "tests/fuzz/driver.c", "kept": len(list(fresh.iterdir()))}
    if status == 0:
        return
    found = [path for path in run.work.iterdir() if path.is_file()]
    for path in found:
        shutil.copy(path, kept / path.name)
    case = str(kept / found[0].name) if found else run.case or "none"
    telling = [line for line in last if "error:" in line or "SUMMARY" in line or ".c:" in line]
    run.fail("signals" if status < 0 else "wrong", case, f"{target}: {' | '.join(telling[:4]) or last[-1:]}")


MEASURE = Measure(
    "R10",
    "arbitrary bytes for everything that reads them",
    (
        *(
            Part(
                target,
                partial(fuzz_target, target=target),
                at_least=EXECUTIONS,
                of=CORE,
                files=(*ENGINE, f"tests/fuzz/{target}.c", f"tests/fuzz/*/{target}/*"),
            )
            for target in engine.TARGETS
        ),
        *(
            Part(
                name,
                partial(decoders.fuzz, name=name, quick=quick, full=full),
                at_least=(quick, full),
                files=("tests/rel/decoders.py",),
            )
            for name, (quick, full) in DECODERS.items()
        ),
    ),
)
