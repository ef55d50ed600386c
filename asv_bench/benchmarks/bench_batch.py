"""Batches, arrays of writes, and deltas made elsewhere."""

import numpy as np

import mmsb
from mmsb import Delta

from .common import SEED, covers, random_bytes


@covers("State.batch")
class Batch:
    params = [[1, 100, 10_000]]
    param_names = ["writes"]

    def setup(self, writes):
        rng = np.random.default_rng(SEED)
        self.state = mmsb.open(history=1 << 20)
        pages = self.state.create_pages(64, 4096)
        self.ids = np.resize(np.array(pages, dtype="u8"), writes)
        self.offsets = rng.integers(0, 4096 - 128, writes).astype("u8")
        self.payloads = [random_bytes(128 * writes, n) for n in range(2)]
        self.turn = 0

    def time_write_many(self, writes):
        self.turn ^= 1
        with self.state.batch() as batch:
            batch.write_many(self.ids, self.offsets, 128, self.payloads[self.turn])


@covers("State.apply", "State.create_delta", "State.route_delta", "State.batch_route_deltas")
class Deltas:
    def setup(self):
        self.state = mmsb.open(history=1 << 20)
        page = self.state.create_page(1024)
        self.page_id, self.mask = page.page_id, [n < 10 for n in range(1024)]
        self.deltas = [Delta.from_ranges(page.page_id, [(7, 10)], bytes([n] * 10)) for n in (1, 2)]

    def time_apply(self):
        for delta in self.deltas:
            self.state.apply(delta)

    def time_create_delta(self):
        self.state.create_delta(self.page_id, self.mask, bytes(10))

    def time_route_delta(self):
        for delta in self.deltas:
            self.state.route_delta(delta)

    def time_batch_route_deltas(self):
        self.state.batch_route_deltas(self.deltas)
