"""mmsb_policies: what each built-in policy does, as logs of events, and a policy from outside."""

import pytest

from mmsb.plugin.manager import PluginManager
from mmsb.testing import FakeEngine, PolicyContract

LIVES = {
    "immediate": [("commit", 1), ("wave", 1, 0), ("commit", 2), ("wave", 1, 0), ("read", 10, 22), ("close",)],
    "deferred": [("commit", 1), ("commit", 2), ("read", 10, 10), ("close",)],
    "lazy": [("commit", 1), ("commit", 2), ("wave", 2, 0), ("read", 10, 22), ("close",)],
}


@pytest.mark.parametrize("name", LIVES)
def test_events(name):
    engine = FakeEngine(PluginManager([]).load().policies[name].make())
    engine.write(1, 5)
    engine.write(2, 7)
    engine.write(2, 7)
    engine.read(10)
    engine.close()
    assert engine.events == LIVES[name]


@pytest.mark.parametrize("name", ["immediate", "deferred", "lazy"])
class TestBuiltIn(PolicyContract):
    @pytest.fixture(autouse=True)
    def choose(self, name):
        self.spec = PluginManager([]).load().policies[name]
        assert self.spec.lossy == self.lossy

    def make(self):
        return self.spec.make()


def test_hook_mmsb_policies(example):
    registry, names = example("policies")
    assert names == ["paced"] and list(registry.policies) == ["deferred", "immediate", "lazy", "paced"]
    engine = FakeEngine(registry.policies["paced"].make())
    for value in (1, 2):
        engine.write(1, value)
        engine.advance(600_000)
    engine.write(1, 3)
    assert [event for event in engine.events if event[0] == "wave"] == [("wave", 1, 0), ("wave", 1, 1_200_000)]
