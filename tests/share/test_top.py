"""mmsb top: a dashboard without a terminal, over owners in processes of their own."""

import asyncio
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from contextlib import asynccontextmanager, suppress

import pytest
from click.testing import CliRunner
from textual.widgets import DataTable, Sparkline, Static

import mmsb
from mmsb.cli.app import commands
from mmsb.cli.dashboard.app import Dashboard, HelpScreen, bar
from mmsb.cli.dashboard.watch import Watch

# A chain of pages a -> b -> c, where c cannot be computed while a begins with 0xff; and a page that clients write.
OWNER = """
from mmsb import links
state = mmsb.open(sys.argv[1] if sys.argv[1] != "-" else None, name="world")
def refuse(out, parent):
    if parent[0] == 255: raise ValueError("it is 255")
    out[:] = parent
if not state.seq:
    for name in "abc": state.create_page(64, name=name)
    state.create_page(4096, name="shared")
    state.depend("b", on="a", link=links.passthrough())
state.depend("c", on="b", fn=refuse)
state.serve()
tell(state.seq)
n = 0
for line in sys.stdin:
    if line.strip() == "go":
        while True:
            n += 1
            state.page("a").write(n.to_bytes(8, "big"), at=8, source="owner")
            time.sleep(0.002)
    state.page("a").write(bytes([int(line)]) * 8)
    tell(state.seq)
"""
WRITER = """
view = mmsb.attach("world")
tell("ready")
while True:
    view.page("shared").write(os.urandom(400), source="writer")
    time.sleep(0.005)
"""
FOLLOWER = """
view = mmsb.attach("world")
tell("ready")
for commit in view.follow(): pass
"""


def run(*words, code=0):
    result = CliRunner().invoke(commands, ["top", *map(str, words)], prog_name="mmsb")
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def target(request, tmp_path):
    """What to serve: a State in memory, if the test says nothing else."""
    return tmp_path / "world" if getattr(request, "param", "memory") == "stored" else "-"


in_memory_and_stored = pytest.mark.parametrize("target", ["memory", "stored"], indirect=True)


@pytest.fixture
def busy(process, target):
    """An owner that writes, a client that writes and one that follows."""
    owner = process(OWNER, target)
    owner.hear()
    others = [process(WRITER), process(FOLLOWER)]
    for other in others:
        other.hear()
    owner.say("go")
    return owner, *others


@asynccontextmanager
async def dashboard(store="world", interval=0.1, size=(120, 34)):
    watch = Watch(str(store), budget_s=interval)
    app = Dashboard(watch, interval)
    try:
        async with app.run_test(size=size) as pilot:
            yield app, pilot
    finally:
        watch.close()


async def until(pilot, condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        await pilot.pause(0.02)


async def eventually(pilot, check, seconds=20.0):
    """Waits for a look in which all holds: in any one of them the machine may have given somebody no time."""
    end = time.monotonic() + seconds
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > end:
                raise
        await pilot.pause(0.02)


def text(app, where):
    return str(app.screen_stack[0].query_one(where, Static).render())


def rows(app, where):
    table = app.screen_stack[0].query_one(f"{where} DataTable", DataTable)
    return [[str(cell) for cell in table.get_row_at(n)] for n in range(table.row_count)]


def facts(app):
    """The panel of the propagation."""
    lines = text(app, "#waves Static").splitlines()
    return {line[:15].strip(): line[15:].strip() for line in lines[:6]}, lines[6:]


# ---- the dashboard


@in_memory_and_stored
def test_every_panel_of_a_busy_state(busy, target):
    owner, writer, follower = busy

    def check(app):
        title = text(app, "#title")
        assert f"world   owner {owner.pid} ● alive   seq " in title and title.endswith("4 pages")
        assert ("durable" in title) == (target != "-")

        pages = {row[1]: row for row in rows(app, "#pages")}
        assert list(pages)[0] == "shared" and set(pages) == {"a", "b", "c", "shared"}
        page_id, _, heat, changes, rate, size, last = pages["shared"]
        assert (page_id, size) == ("4", "4.0 KiB") and heat == "█" * 12
        assert re.fullmatch(r"\d+/s", changes) and re.fullmatch(r"[\d.]+ (B|KiB)/s", rate)
        assert 8 < int(last.replace(",", "")) <= app.picture.seq
        assert pages["a"][5] == "64 B" and pages["a"][3] == pages["b"][3] == pages["c"][3]

        numbers, rest = facts(app)
        assert numbers["pages per wave"] == numbers["most in one"] == "2" and rest == []
        assert (numbers["stale pages"], numbers["failing pages"]) == ("0", "0")
        assert re.fullmatch(r"\d+/s", numbers["waves"]) and numbers["waves"] != "0/s"

        clients = {int(row[0]): row[1:] for row in rows(app, "#clients")}
        assert set(clients) == {writer.pid, follower.pid, app.picture.me}
        assert clients[app.picture.me][0] == "this dashboard"
        assert clients[follower.pid][0] in ("follows", "reads") and clients[follower.pid][3] == ""
        does, *_, sent, per_s, failed, pending = clients[writer.pid]
        assert does == "writes" and int(sent.replace(",", "")) > 0 and failed == "0" and pending.endswith("B")
        assert per_s not in ("", "0/s")

        assert re.fullmatch(r"[\d,.]+/s", text(app, "#commits .number"))
        assert re.fullmatch(r"[\d.]+ (B|KiB|MiB)/s, [\d.]+ \w+ in 1 segment", text(app, "#log .number"))
        for name in ("#commits", "#log"):
            history = app.screen.query_one(f"{name} Sparkline", Sparkline).data
            assert len(history) == app.looks and min(history) >= 0 < max(history)

    async def look():
        async with dashboard() as (app, pilot):
            await until(pilot, lambda: app.looks >= 4 and len(rows(app, "#pages")) == 4)
            await eventually(pilot, lambda: check(app))

    asyncio.run(look())


def test_keys(busy):
    async def look():
        async with dashboard() as (app, pilot):
            await until(pilot, lambda: len(rows(app, "#pages")) == 4)
            shown = {}
            for name in ("heat", "changes/s", "bytes/s", "last seq", "page"):
                assert app.screen.query_one("#pages").border_title == f"Pages by {name}"
                shown[name] = [row[1] for row in rows(app, "#pages")]
                await pilot.press("s")
            assert shown["page"] == ["a", "b", "c", "shared"] and shown["heat"][0] == "shared"
            assert app.sort == "heat"

            await pilot.press("p")
            assert text(app, "#title").endswith("paused ")
            before, looks = rows(app, "#pages"), app.looks
            await until(pilot, lambda: app.looks > looks + 1)
            await pilot.press("s")
            assert sorted(rows(app, "#pages")) == sorted(before), "in another order, as they were"
            await pilot.press("p")
            assert "paused" not in text(app, "#title")
            await until(pilot, lambda: sorted(rows(app, "#pages")) != sorted(before))

            await pilot.press("question_mark")
            assert isinstance(app.screen, HelpScreen)
            assert "changed lately" in str(app.screen.query_one("#help", Static).render())
            looks = app.looks
            await until(pilot, lambda: app.looks > looks)  # it goes on behind
            await pilot.press("escape")
            assert not isinstance(app.screen, HelpScreen)
            await pilot.press("q")
        assert app.return_code == 0

    asyncio.run(look())


def test_nothing_happens(process):
    owner = process(OWNER, "-")
    owner.hear()

    def check(app):
        assert app.looks
        assert rows(app, "#pages") == [] and text(app, "#commits .number") == "0/s"
        assert app.screen.query_one("#pages").border_subtitle == "no page changed lately"
        assert len(rows(app, "#clients")) == 1 and facts(app)[0]["pages per wave"] == "-"

    async def look():
        async with dashboard(interval=0.5) as (app, pilot):
            assert "looking" in text(app, "#title")
            await pilot.press("s", "s", "p", "p")  # before there is anything to draw
            await eventually(pilot, lambda: check(app))

    asyncio.run(look())


def test_names_are_shown_as_they_are():
    """What looks like markup, and what a terminal would obey."""

    async def look(state):
        async with dashboard("[b]world[x]") as (app, pilot):
            page = state.create_page(8, name="[red]a[/b]\x1b[2J")
            page.write(b"x")
            await until(pilot, lambda: rows(app, "#pages"))
            assert rows(app, "#pages")[0][1] == "[red]a[/b]\\x1b[2J"
            assert text(app, "#title").strip().startswith("[b]world[x]   owner")

    with mmsb.open(name="[b]world[x]") as state:
        state.serve()
        asyncio.run(look(state))


def test_pages_that_fail(process):
    owner = process(OWNER, "-")
    owner.hear()

    async def look():
        async with dashboard() as (app, pilot):
            owner.say("255")
            owner.hear()
            await until(pilot, lambda: facts(app)[0].get("failing pages") == "1")
            numbers, reasons = facts(app)
            assert numbers["stale pages"] == "1" and reasons == ["", "3 c", "ValueError: it is 255"]
            owner.say("1")
            owner.hear()
            await until(pilot, lambda: facts(app)[0]["failing pages"] == "0")
            assert facts(app)[0]["stale pages"] == "0" and facts(app)[1] == []

    asyncio.run(look())


@in_memory_and_stored
def test_the_owner_dies_and_has_a_successor(process, busy, target, monkeypatch):
    monkeypatch.setattr("mmsb.cli.dashboard.watch.REATTACH_SECONDS", 0.05)
    owner, *others = busy

    async def look():
        async with dashboard() as (app, pilot):
            await until(pilot, lambda: app.looks >= 2 and len(rows(app, "#pages")) == 4)
            owner.kill()
            await until(pilot, lambda: "gone" in text(app, "#title"))
            last, looks = rows(app, "#pages"), app.looks
            assert len(last) == 4 and f"owner {owner.pid}" in text(app, "#title") and rows(app, "#clients")
            assert app.screen.query_one("#title").has_class("gone")
            await until(pilot, lambda: app.looks > looks + 1)
            assert rows(app, "#pages") == last
            heir = process(OWNER, target)
            heir.hear()
            heir.say("7")
            await until(pilot, lambda: f"owner {heir.pid} ● alive" in text(app, "#title"))
            heir.say("8")
            await until(pilot, lambda: [row[1] for row in rows(app, "#pages")] == ["a", "b", "c"])
            assert not app.screen.query_one("#title").has_class("gone")

    asyncio.run(look())


def test_a_small_terminal(busy):
    """Panels get lower, and nothing hangs over the edge."""

    async def look(size, lines):
        async with dashboard(size=size) as (app, pilot):
            await until(pilot, lambda: len(rows(app, "#pages")) == 4 and len(rows(app, "#clients")) == 3)
            for name in ("#title", "#commits", "#log", "#pages", "#waves", "#clients"):
                region = app.screen.query_one(name).region
                assert region.right <= size[0] and region.bottom < size[1] and region.height
            assert app.screen.query_one("#log").region.height == lines

    asyncio.run(look((80, 24), 4))
    asyncio.run(look((100, 40), 5))


def test_bars():
    assert [str(bar(share)).rstrip() for share in (0, 1 / 96, 0.5, 1)] == ["", "▏", "█" * 6, "█" * 12]
    assert {len(bar(n / 100)) for n in range(101)} == {12}


# ---- the command


def test_once_and_json(busy):
    owner, writer, follower = busy
    shown = run("world", "--once", "--interval", 1).stdout
    assert f"{owner.pid} (alive)" in shown and "pages per wave  2" in shown
    assert re.search(r"^ *4 +shared +4\.0 KiB +[\d.]+/s", shown, re.MULTILINE)
    facts = json.loads(run("world", "--json", "--interval", 1).stdout)
    assert facts["alive"] and facts["state"] == "world" and facts["owner"]["pid"] == owner.pid
    assert {page["name"] for page in facts["pages"]} == {"a", "b", "c", "shared"}
    assert facts["waves"]["pages_per_wave"] == 2 and facts["commits_per_s"] > facts["waves"]["per_s"] > 0
    assert {writer.pid, follower.pid} < {client["pid"] for client in facts["owner"]["clients"]}


def test_a_screenshot(busy, tmp_path):
    run("world", "--screenshot", tmp_path / "top.svg", "--looks", 3, "--interval", 0.1)
    picture = (tmp_path / "top.svg").read_text()
    assert picture.startswith("<svg") and "shared" in picture and "Propagation" in picture


def test_without_textual():
    """Only the dashboard needs it."""
    code = "import sys; sys.modules['textual'] = None; from mmsb.cli import main; main()"
    with mmsb.open(name="world") as state:
        state.serve()
        words = [sys.executable, "-c", code, "top", "world"]
        result = subprocess.run(words, capture_output=True, text=True)
        said = "Error: The dashboard needs textual: pip install 'mmsb[top]'. Or use --once."
        assert (result.returncode, result.stderr.splitlines()[-1]) == (2, said)
        result = subprocess.run([*words, "--once", "--interval", "0.05"], capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, "") and "no page changed" in result.stdout


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_in_a_terminal(process, key):
    process(OWNER, "-").hear()
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    words = [sys.executable, "-m", "mmsb", "top", "world", "--interval", "0.1"]
    running = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    shown = b""
    try:
        while running.poll() is None and select.select([ours], [], [], 30)[0]:
            with suppress(OSError):  # its end is closed
                shown += os.read(ours, 65536)
            if key is not None and b"alive" in shown:
                os.write(ours, key)
                key = None
        assert b"Propagation" in shown and running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
        os.close(ours)


def test_without_a_terminal():
    with mmsb.open(name="world") as state:
        state.serve()
        assert "needs a terminal" in run("world", code=2).stderr


def test_nobody_serves_it(tmp_path):
    assert "Call state.serve() in its owner" in run("nobody", "--once", code=2).stderr
    assert "Nobody serves" in run("nobody", "--json", code=2).stderr
    assert "no store" in run(tmp_path / "x", "--once", code=2).stderr
    assert "It is empty" in run("", code=2).stderr
    assert "Error: No such option" in run("nobody", "--nonsense", code=2).stderr
