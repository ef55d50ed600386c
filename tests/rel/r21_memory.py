"""R21: memory runs out. Each request for memory that mmsb's compiled code makes in an operation is refused, once, and
from there on; the operation fails with a clean error, leaves everything as it was, holds nothing, and succeeds when it
is tried again. The same for each request that goes to the interpreter, where it lets itself be refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial

from tests.rel import starved
from tests.rel.programme import ROOT, Measure, Part, Run

SOURCE = ROOT / "tests/c/failing_malloc.c"


def starve(run: Run, name: str) -> None:
    """Every request of one operation. A case names the request."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        run.tally.skipped = "there is no C compiler: install gcc"
        return
    library, work = run.work / "failing.so", run.work / "stores"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(library), "-ldl"], check=True)
    work.mkdir(mode=0o700)
    command = [sys.executable, "-m", "tests.rel.starved", str(library), name, str(work), *filter(None, [run.case])]
    environment = {**os.environ, "LD_PRELOAD": str(library), "XDG_RUNTIME_DIR": str(work)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "injected" in told:
                run.tally.injected = told["injected"]
            else:
                run.fail("wrong", told["case"], told["what"])
    if process.returncode < 0:
        run.fail("signals", run.case or name, f"{name} ended with signal {-process.returncode}")
    elif process.returncode != 0:
        raise RuntimeError(f"{name} ended with status {process.returncode}")


MEASURE = Measure(
    "R21",
    "memory runs out at every request",
    tuple(Part(name, partial(starve, name=name), at_least=(1, 1)) for name in starved.OPERATIONS),
    files=("tests/c/failing_malloc.c", "tests/rel/starved.py"),
)
