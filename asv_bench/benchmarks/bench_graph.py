"""The graph of pages: linking, unlinking, asking."""

import numpy as np

import mmsb
from mmsb import links

from .common import covers


@covers("State.depend", "State.undepend")
class Link:
    def setup(self):
        self.state = mmsb.open(history=1 << 20)
        self.parent, self.child = self.state.create_page(64), self.state.create_page(64)

    def time_depend_and_undepend(self):
        self.state.depend(self.child, on=self.parent, link=links.passthrough())
        self.state.undepend(self.child, on=self.parent)


@covers("State.depend_many")
class Many:
    params = [[100, 10_000]]
    param_names = ["edges"]

    def time_pages_and_depend_many(self, edges):
        state = mmsb.open()
        ids = np.array(state.create_pages(edges + 1, 64), dtype="u8")
        state.depend_many(ids[:-1], ids[1:], semiring="max-plus", dtype="int64")


@covers("State.graph")
class Asked:
    def setup(self):
        self.state = mmsb.open()
        self.ids = self.state.create_pages(1025, 64)
        ids = np.array(self.ids, dtype="u8")
        parents = np.concatenate([ids[:-step] for step in (1, 2, 3, 4)])
        children = np.concatenate([ids[step:] for step in (1, 2, 3, 4)])
        self.state.depend_many(parents, children, semiring="max-plus", dtype="int64")

    def time_order(self):
        self.state.graph.order()

    def time_descendants(self):
        self.state.graph.descendants(self.ids[0])
