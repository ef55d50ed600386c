"""Pages: made, found, read, written."""

import itertools

import mmsb

from .common import DURABILITY, PAGE_BYTES, Folder, contents, covers


@covers("State.create_page", "State.create_pages", "State.delete_page", "State.page", "State.pages")
class Life:
    def setup(self):
        self.state = mmsb.open(history=1 << 20)
        self.state.create_page(64, name="known")
        self.state.create_pages(1000, 64)

    def time_create_and_delete(self):
        self.state.delete_page(self.state.create_page(4096))

    def time_create_1000(self):
        self.state.create_pages(1000, 64)

    def time_page_by_name(self):
        self.state.page("known")

    def time_pages(self):
        self.state.pages()


@covers("State.set_metadata")
class Described:
    def setup(self):
        self.state = mmsb.open(history=1 << 20)
        self.page = self.state.create_page(64)
        self.values = itertools.cycle([{"dtype": "f4", "n": 1}, {"dtype": "f8", "n": 2}])

    def time_set_metadata(self):
        self.state.set_metadata(self.page, next(self.values))


@covers("State.query_page")
class Read:
    params = [PAGE_BYTES]
    param_names = ["page_bytes"]

    def setup(self, page_bytes):
        self.state = mmsb.open()
        self.page = self.state.create_page(page_bytes)
        self.page_id, self.buffer = self.page.page_id, bytearray(page_bytes)

    def time_query_page(self, page_bytes):
        self.state.query_page(self.page_id)

    def time_read(self, page_bytes):
        self.page.read()

    def time_read_into(self, page_bytes):
        self.page.read_into(self.buffer)


@covers("State.update_page")
class Update(Folder):
    params = [PAGE_BYTES, ["none", "process"]]
    param_names = ["page_bytes", "durability"]

    def setup(self, page_bytes, durability):
        self.state = mmsb.open(None if durability == "none" else self.new_path(), **history(durability))
        self.page_id = self.state.create_page(page_bytes).page_id
        self.contents = contents(page_bytes)

    def time_update_page(self, page_bytes, durability):
        self.state.update_page(self.page_id, next(self.contents))


class Write(Folder):
    params = [DURABILITY]
    param_names = ["durability"]

    def setup(self, durability):
        path = None if durability == "none" else self.new_path()
        self.state = mmsb.open(path, durability=durability, **history(durability))
        self.page = self.state.create_page(4096)
        self.values = itertools.cycle([b"0123456789", b"9876543210"])

    def time_write_10_bytes(self, durability):
        self.page.write(next(self.values), at=100)


def history(durability):
    """A State in memory would otherwise keep all that a benchmark writes."""
    return {"history": 1 << 20} if durability == "none" else {}
