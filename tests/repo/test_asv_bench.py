"""The benchmark suite covers what it must and each of its benchmarks runs; how fast they are is asked elsewhere."""

import importlib
import inspect
import itertools
import pkgutil
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[2] / "asv_bench"
sys.path.insert(0, str(SUITE))
import benchmarks  # noqa: E402


def classes():
    """Every class of benchmarks, by module and name."""
    for module in pkgutil.iter_modules(benchmarks.__path__):
        found = importlib.import_module(f"benchmarks.{module.name}")
        for name, kind in inspect.getmembers(found, inspect.isclass):
            if kind.__module__ == found.__name__ and cases_of(kind):
                yield pytest.param(kind, id=f"{module.name}.{name}")


def cases_of(kind):
    return [name for name, _ in inspect.getmembers(kind, callable) if name.startswith(("time_", "track_", "peakmem_"))]


def grid_of(kind):
    """The smallest case of each axis, and one that goes through the other values of the last axis."""
    axes = getattr(kind, "params", [])
    return list(itertools.product(*[axis[:1] for axis in axes[:-1]], *axes[-1:])) if axes else [()]


@pytest.mark.parametrize("kind", list(classes()))
def test_each_benchmark_runs(kind):
    ran = 0
    for parameters in grid_of(kind):
        for name in cases_of(kind):
            benchmark = kind()
            try:
                if hasattr(benchmark, "setup"):
                    benchmark.setup(*parameters)
                for _ in range(2):
                    getattr(benchmark, name)(*parameters)
            except NotImplementedError:
                continue
            finally:
                if hasattr(benchmark, "teardown"):
                    benchmark.teardown(*parameters)
            ran += 1
    assert ran


def test_what_has_no_benchmark_is_named(monkeypatch):
    monkeypatch.setattr(sys.modules["benchmarks.common"], "COVERED", set())
    import mmsb

    monkeypatch.setattr(mmsb.State, "a_new_method", lambda self: None, raising=False)
    with pytest.raises(ImportError, match=r"State\.a_new_method"):
        importlib.reload(benchmarks)
    monkeypatch.undo()
    importlib.reload(benchmarks)
