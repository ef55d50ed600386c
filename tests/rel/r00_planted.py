"""R0: planted faults. A harness that cannot find a bug of one line proves nothing, so each is shown some."""

from __future__ import annotations

import fcntl
import time

from tests.rel.planted import FAULTS, Fault
from tests.rel.programme import BROKEN, ROOT, Measure, Part, Run
from tests.rel.variants import Tree, VariantError

SECONDS = 120  # for one part to find one fault
QUICK = 6  # measures of which a quick run plants a fault: all faults take minutes


def planted(run: Run) -> None:
    """Each fault alone, in a copy of the tree. In full all of them, and each part also runs once without a fault, and
    finds nothing.
    """
    folder = ROOT / "build/rel/planted"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "in-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tree = Tree(folder)
        tree.prepare()
        chosen = faults(run)
        seconds: dict[str, float] = {}
        for done, (number, fault) in enumerate(chosen):
            run.progress(done, len(chosen))
            begun = time.monotonic()
            problem = miss(tree, fault, run.seed)
            seconds[number] = round(time.monotonic() - begun, 1)
            run.tally.injected += 1
            if problem:
                run.fail("wrong", number, f"{fault.name}: {problem}")
        run.tally.figures["seconds"] = seconds
        for part in sorted({fault.part for _, fault in chosen}) if run.size == "full" else ():
            ended, tally = tree.run_part(part, 10 * SECONDS, seed=run.seed)
            if not tally or any(tally[kind] for kind in BROKEN):
                run.fail("wrong", part, f"{part} without a fault is red: {ended.output[-500:] or tally}")


def faults(run: Run) -> list[tuple[str, Fault]]:
    """The faults to plant, by number: all, or in quick one of each of QUICK measures, which depend on the seed."""
    numbered = [(str(number), fault) for number, fault in enumerate(FAULTS, 1)]
    if run.case is not None or run.size == "full":
        return [each for each in numbered if run.wants(each[0])]
    by_measure: dict[str, list[tuple[str, Fault]]] = {}
    for each in numbered:
        by_measure.setdefault(each[1].part.split("/")[0], []).append(each)
    dice = run.dice("planted")
    return [dice.choice(by_measure[measure]) for measure in dice.sample(sorted(by_measure), QUICK)]


def miss(tree: Tree, fault: Fault, seed: int) -> str:
    """What is wrong with the harness that must find a fault; "": it did."""
    text = (ROOT / fault.file).read_text()
    if text.count(fault.old) != 1:
        return f"its line stands {text.count(fault.old)} times in {fault.file}, which has moved on: mend the list"
    try:
        with tree.changed(fault.file, text.replace(fault.old, fault.new)):
            ended, tally = tree.run_part(fault.part, SECONDS, case=fault.case, seed=seed)
    except VariantError as error:
        return str(error)
    if tally.get("skipped"):
        return ""  # this machine cannot run that part, and says so there
    if any(tally.get(kind) for kind in BROKEN) or (ended.status or 0) < 0:
        return ""
    if ended.status is None:
        return f"{fault.part} did not end within {SECONDS} s"
    return f"{fault.part} found nothing" if tally else f"{fault.part} could not run: {ended.output[-500:]}"


MEASURE = Measure(
    "R0",
    "planted faults, each found",
    (Part("planted", planted, at_least=(QUICK, len(FAULTS))),),
    files=("tests/rel/*.py", "tests/rel/*/*.py"),
)
