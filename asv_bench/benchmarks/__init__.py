"""Benchmarks of mmsb. Importing the suite fails when something that it must cover has no benchmark."""

import importlib
import inspect
import pkgutil
import sys

import mmsb
from mmsb.plugin import hookspecs

from .common import COVERED

# Attributes that only say a number that is kept anyway, and names with one leading role inside the package.
PLAIN = {
    "anchor", "branch", "closed", "durable_seq", "first_seq", "last_crc", "next_page_id", "page_count", "page_id_of",
    "path", "poisoned", "read_only", "scratch", "seq", "stale_reads", "time_ns", "uuid",
}  # fmt: skip


def required() -> set[str]:
    """Each kernel of the table, each public method of State, each hook."""
    kernels = {f"kernel {name}" for name in mmsb.cpu_report()["kernels"]}
    methods = {f"State.{name}" for name in dir(mmsb.State) if not name.startswith("_") and name not in PLAIN}
    hooks = {f"hook {name}" for name in vars(hookspecs) if name.startswith("mmsb_")}
    return kernels | methods | hooks


for module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{module.name}")
if missing := sorted(required() - COVERED):
    raise ImportError(f"no benchmark covers {', '.join(missing)}: write one and name it in @covers")
if unknown := sorted(COVERED - required()):
    raise ImportError(f"benchmarks cover what is not there: {', '.join(unknown)}")
if inspect.stack()[-1].filename != "<string>":
    print(f"mmsb {mmsb.__version__}: {mmsb.cpu_report()['kernels']}", file=sys.stderr)
