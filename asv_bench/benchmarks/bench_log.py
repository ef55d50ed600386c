"""The log: reading it, asking it, syncing, verifying, and the bytes that a change takes."""

import mmsb

from .common import Folder, changed, covers, random_bytes, store_with_history


@covers("State.log", "State.last_write", "State.diff", "State.verify", "State.digest", "State.stats", "State.replay")
class Asked(Folder):
    def setup(self):
        self.state = store_with_history(self.new_path(), 10_000)
        self.page = self.state.pages()[50]

    def time_log(self):
        for _commit in self.state.log():
            pass

    def time_last_write(self):
        self.state.last_write(self.page, at=0, length=16, before=5000)

    def time_diff(self):
        self.state.diff(2000, 2100)

    def time_verify(self):
        self.state.verify()

    def time_digest(self):
        self.state.digest()

    def time_stats(self):
        self.state.stats()

    def time_replay(self):
        self.state.replay()


@covers("State.sync")
class Sync(Folder):
    def setup(self):
        self.state = mmsb.open(self.new_path())
        self.page = self.state.create_page(64)
        self.n = 0

    def time_write_and_sync(self):
        self.n += 1
        self.page.write(self.n.to_bytes(8, "little"))
        self.state.sync()


class Size:
    """Log bytes of one commit of 1 % of a page."""

    params = [[64, 1024, 65536]]
    param_names = ["page_bytes"]

    def track_log_bytes(self, page_bytes):
        state = mmsb.open()
        content = random_bytes(page_bytes)
        page = state.create_page(page_bytes, data=content)
        state.update_page(page, changed(content, 0.01))
        return next(iter(state.log(since=state.seq))).nbytes

    track_log_bytes.unit = "bytes"
