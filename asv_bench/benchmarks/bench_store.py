"""Stores: opening, checkpoints, compaction, forks, closing."""

import itertools
import shutil

import mmsb

from .common import Folder, covers, store_with_history


@covers("State.close", "State.stop")
class Open(Folder):
    params = [[100, 100_000]]
    param_names = ["commits"]

    def setup(self, commits):
        self.path = self.new_path()
        store_with_history(self.path, commits).close()

    def time_open_and_close(self, commits):
        mmsb.open(self.path).close()

    def time_open_read_only(self, commits):
        mmsb.open(self.path, read_only=True).close()

    def time_open_and_stop(self, commits):
        mmsb.open(self.path).stop()


@covers("State.checkpoint")
class Checkpoint(Folder):
    params = [[100, 10_000]]
    param_names = ["pages"]

    def setup(self, pages):
        self.state = store_with_history(self.new_path(), 1000, pages, 1024)
        self.page, self.n = self.state.pages()[0], 0

    def time_checkpoint_after_one_write(self, pages):
        self.n += 1
        self.page.write(self.n.to_bytes(8, "little"))
        self.state.checkpoint()


@covers("State.compact", "State.fork")
class Copies(Folder):
    number, warmup_time = 1, 0

    def setup(self):
        self.origin = self.new_path()
        store_with_history(self.origin, 10_000).close()
        self.copies = itertools.count()
        self.path = f"{self.origin}-{next(self.copies)}"
        shutil.copytree(self.origin, self.path)
        self.state = mmsb.open(self.path)

    def time_compact(self):
        self.state.compact(5000)

    def time_fork(self):
        self.state.fork(5000, f"{self.origin}-{next(self.copies)}").close()
