"""What every plugin module must pass.

In a plugin's tests:

    class TestPlugin(PluginContract):
        module = "my_package.plugin"
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint

from mmsb.plugin.manager import GROUP, PluginManager
from mmsb.plugin.records import ACTIVE, PluginRecord
from mmsb.plugin.registry import Registry

# Modules that take long to import; a plugin module names things by strings and leaves these to them.
HEAVY = ("click", "cupy", "gymnasium", "numba", "numpy", "pyopencl", "rich", "torch")


def load_plugin(module: str) -> tuple[Registry, PluginRecord]:
    """The registry with the built-in plugins and this one, installed or not, and its record."""
    registry = PluginManager([EntryPoint("under-test", module, GROUP)]).load()
    return registry, registry.records[-1]


class PluginContract:
    """It loads, it is light, and what it names exists. `module` is the one thing to define."""

    module: str

    def test_it_is_active_and_offers_something(self) -> None:
        """No record but an active one, and at least one spec."""
        _, record = load_plugin(self.module)
        assert record.status == ACTIVE, f"{record}\n{record.traceback}"
        assert record.offers

    def test_everything_it_offers_can_be_imported(self) -> None:
        """The strings of its specs lead somewhere."""
        registry, record = load_plugin(self.module)
        for kind, name in record.offers:
            assert callable(registry.find(kind, name).resolve())

    def test_its_module_is_light(self) -> None:
        """Loading a plugin must not cost what using it costs. Measured in a fresh process."""
        code = f"import json, sys, {self.module}; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
        environment_path = json.dumps(sys.path)
        result = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:] = {environment_path}\n{code}"],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout) == []
