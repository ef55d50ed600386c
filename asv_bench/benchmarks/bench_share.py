"""Other processes: attaching, reads through a view, commands, events."""

import os

import mmsb

from .common import covers


class Shared:
    """A State in memory that a view of this process is attached to."""

    def setup(self):
        self.state = mmsb.open(name="asv", history=1 << 20)
        self.page = self.state.create_page(4096, name="a")
        self.state.serve()
        self.view = mmsb.attach("asv")
        self.seen, self.n = self.view.page("a"), 0

    def teardown(self):
        self.view.close()
        self.state.close()


@covers("State.serve")
class View(Shared):
    def time_attach(self):
        mmsb.attach("asv").close()

    def time_read(self):
        self.seen.read()

    def time_write_through_the_ring(self):
        self.n += 1
        self.seen.write(self.n.to_bytes(8, "little"))


@covers("State.poll")
class Poll:
    def setup(self):
        self.state = mmsb.open(name="asv-poll")
        self.state.serve(thread=False)

    def teardown(self):
        self.state.close()

    def time_poll_with_nothing_to_do(self):
        self.state.poll(0)


@covers("State.subscribe", "State.unsubscribe")
class Events:
    def setup(self):
        self.state = mmsb.open(history=1 << 20)
        self.page, self.n = self.state.create_page(64), 0
        self.state.subscribe("page_changed", lambda event: None)

    def time_write_with_a_handler(self):
        self.n += 1
        self.page.write(self.n.to_bytes(8, "little"))

    def time_subscribe_and_unsubscribe(self):
        self.state.unsubscribe(self.state.subscribe("page_changed", lambda event: None, pages=self.page))


@covers("State.trace")
class Traced:
    def setup(self):
        self.state = mmsb.open(history=1 << 20)
        self.page, self.n = self.state.create_page(64), 0
        self.trace = self.state.trace(os.devnull)

    def teardown(self):
        self.state.close()

    def time_write_while_traced(self):
        self.n += 1
        self.page.write(self.n.to_bytes(8, "little"))
