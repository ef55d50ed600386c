"""Every input that is kept, through its target: those that broke something once, and the corpora.

The search for new ones is measure R10 (tests/rel/r10_fuzz.py). Here the targets stand on tests/fuzz/driver.c, without
the sanitizers in every run and with them in the slow one.
"""

import pytest

from tests.csrc import compiler_line, library, run
from tests.fuzz.engine import HERE, TARGETS, corpora


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sanitized", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "sanitized"])
def test_inputs_that_are_kept(tmp_path, tmp_path_factory, target, sanitized):
    base = tmp_path_factory.getbasetemp()
    archive = library(base.parent if base.name.startswith("popen-gw") else base, sanitized)
    sources = [HERE / f"{target}.c", HERE / "driver.c"]
    run([*compiler_line(sanitized), *sources, archive, "-lpthread", "-o", "fuzz"], tmp_path)
    run([tmp_path / "fuzz", "-runs=5000", *corpora(target)], tmp_path)


def test_every_target_has_inputs_and_every_input_a_target():
    programs = {path.stem for path in HERE.glob("*.c")} - {"driver"}
    assert programs == TARGETS.keys() == {path.name for path in (HERE / "corpus").iterdir()}
    assert {path.name for path in (HERE / "regressions").iterdir()} <= programs
