"""A day in the life: record, checkpoint, close, open, travel, prove."""

import mmsb

from .common import Folder, store_with_history


class Story(Folder):
    number, warmup_time = 1, 0

    def time_a_day(self):
        path = self.new_path()
        state = store_with_history(path, 5000)
        state.checkpoint()
        digest = state.digest()
        state.close()
        with mmsb.open(path) as state:
            assert state.digest() == digest and not state.verify().findings
            for seq in range(100, state.seq, 500):
                state.at(seq).pages()
