"""Waves: a chain, a fan, and functions in Python, under each policy."""

import numpy as np

import mmsb
from mmsb import links
from mmsb.plugin.manager import installed

from .common import POLICY, covers, skip_unless


def linked(policy, shape, count):
    """A State of `count` pages that depend on a first one, as a chain or a fan."""
    state = mmsb.open(policy=policy, history=1 << 20)
    ids = np.array(state.create_pages(count + 1, 64), dtype="u8")
    parents = ids[:-1] if shape == "chain" else np.full(count, ids[0])
    state.depend_many(parents, ids[1:], semiring="max-plus", dtype="int64")
    return state, int(ids[0])


@covers("State.propagate", "State.policy", "hook mmsb_policies")
class Wave:
    params = [POLICY, ["chain", "fan"], [10, 10_000]]
    param_names = ["policy", "shape", "pages"]

    def setup(self, policy, shape, pages):
        skip_unless(policy in installed().policies)
        self.state, self.first = linked(policy, shape, pages)
        self.n = 0

    def teardown(self, *_parameters):
        if hasattr(self, "state"):
            self.state.close()

    def time_write_and_propagate(self, policy, shape, pages):
        self.n += 1
        self.state.update_page(self.first, self.n.to_bytes(8, "little") * 8)
        self.state.propagate()


@covers("State.deferred")
class Deferred:
    def setup(self):
        self.state, self.first = linked("immediate", "chain", 100)
        self.n = 0

    def time_ten_writes_one_wave(self):
        with self.state.deferred():
            for _ in range(10):
                self.n += 1
                self.state.update_page(self.first, self.n.to_bytes(8, "little") * 8)


class Function:
    """One page computed by a function in Python, and one that passes a page through."""

    params = [["function", "passthrough"]]
    param_names = ["link"]

    def setup(self, link):
        self.state = mmsb.open(history=1 << 20)
        parent, child = self.state.create_page(1024), self.state.create_page(1024)
        how = {"link": links.passthrough()} if link == "passthrough" else {"fn": lambda parents, out: None}
        self.state.depend(child, on=parent, **how)
        self.write, self.n = parent.write, 0

    def time_hop(self, link):
        self.n += 1
        self.write(self.n.to_bytes(8, "little"))
