"""mmsb_policies: what each built-in policy does, as logs of events, and a policy from outside."""

import pytest

from mmsb.plugin.manager import PluginManager
from mmsb.testing import PolicyContract, Trial

LIVES = {
    "immediate": [("commit", 1), ("wave", 0), ("commit", 2), ("wave", 0), ("read", 10, 22), ("close",)],
    "deferred": [("commit", 1), ("commit", 2), ("stale", 10), ("close",)],
    "lazy": [("commit", 1), ("commit", 2), ("wave", 0), ("read", 10, 22), ("close",)],
}
LIVES["parallel"] = LIVES["immediate"]


@pytest.mark.parametrize("name", LIVES)
def test_events(name):
    trial = Trial(PluginManager([]).load().policies[name].make())
    trial.write(1, 5)
    trial.write(2, 7)
    trial.write(2, 7)
    trial.read(10)
    trial.close()
    assert trial.events == LIVES[name]


@pytest.mark.parametrize("name", LIVES)
class TestBuiltIn(PolicyContract):
    @pytest.fixture(autouse=True)
    def choose(self, name):
        self.spec = PluginManager([]).load().policies[name]
        assert self.spec.lossy == self.lossy

    def make(self):
        return self.spec.make()


def test_hook_mmsb_policies(example):
    registry, names = example("policies")
    assert names == ["paced"] and list(registry.policies) == sorted([*LIVES, "paced"])
    trial = Trial(registry.policies["paced"].make())
    for value in (1, 2, 3):
        trial.write(1, value)
        trial.advance(600_000)
    assert [event for event in trial.events if event[0] == "wave"] == [("wave", 0), ("wave", 1_200_000)]
