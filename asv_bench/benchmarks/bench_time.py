"""Time travel: at, stepper, the history of a page."""

import itertools

import numpy as np

from .common import SEED, Folder, covers, store_with_history


@covers("State.at", "State.stepper")
class Past(Folder):
    params = [[1_000, 100_000]]
    param_names = ["commits"]

    def setup(self, commits):
        self.state = store_with_history(self.new_path(), commits)
        seqs = np.random.default_rng(SEED).integers(2, self.state.seq, 64)
        self.seqs = itertools.cycle(int(seq) for seq in seqs)
        self.page = self.state.pages()[50]
        self.stepper = self.state.stepper(commits // 2)

    def time_at(self, commits):
        self.state.at(next(self.seqs)).page(self.page.page_id).read()

    def time_step_forward_and_back(self, commits):
        self.stepper.step(1)
        self.stepper.step(-1)

    def time_history_of_a_page(self, commits):
        for _delta in itertools.islice(self.page.history(), 10):
            pass
