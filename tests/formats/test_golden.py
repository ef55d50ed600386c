"""Golden files are read for ever, and what is written today has their bytes."""

import importlib.util
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmsb
from mmsb.metadata import decode, encode

GOLDEN = Path(__file__).parents[1] / "golden"
_spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)

OPTIONS = {"plain": {}, "compacted": {}, "keyed": {"anchor_key": make.KEY}, "graph": {}, "every": {}}


def expected(name):
    return json.loads((GOLDEN / "v1" / f"{name}.json").read_text())


def plain(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_reader_finds_everything(name):
    with mmsb.open(GOLDEN / "v1" / name, read_only=True, **OPTIONS[name]) as state:
        assert plain(make.facts(state)) == expected(name)
        assert state.verify().findings == []


@pytest.mark.parametrize("name", OPTIONS)
def test_a_writer_goes_on(tmp_path, name):
    shutil.copytree(GOLDEN / "v1" / name, tmp_path / "s")
    for turn in range(2):
        with mmsb.open(tmp_path / "s", **OPTIONS[name]) as state:
            state.page(1).write(bytes([turn + 200]) * 50, source="today")
            state.checkpoint()
            assert state.verify().findings == []
    with mmsb.open(tmp_path / "s", **OPTIONS[name]) as state:
        assert state.seq == expected(name)["seq"] + 2
        digests = expected(name)["digests"]
        assert {seq: state.at(int(seq)).digest().hex() for seq in digests} == digests


@pytest.mark.parametrize("name", OPTIONS)
def test_todays_bytes_are_the_same(tmp_path, monkeypatch, name):
    """Where a compressor had a part, only what it holds must be the same: zstandard may learn to pack better."""
    monkeypatch.setattr("mmsb.log.FileLog.wake", lambda self, state: None)
    assert plain(make.STORES[name](tmp_path / "s")) == expected(name)
    for path in sorted((GOLDEN / "v1" / name).rglob("*")):
        if path.suffix in ("", ".seg") and path.is_file():
            assert (tmp_path / "s" / path.relative_to(GOLDEN / "v1" / name)).read_bytes() == path.read_bytes(), path


def test_a_writer_goes_on_with_links(tmp_path):
    """What is stale is known; native links work at once, the function when it is registered again."""
    shutil.copytree(GOLDEN / "v1" / "graph", tmp_path / "s")
    with mmsb.open(tmp_path / "s") as state:
        with pytest.raises(mmsb.StalePageError):
            state.page("sum").read()
        state.propagate()
        lanes = state.page("a").view("int32") * 3 - state.page("b").view("int32") * 2
        assert state.page("sum").read() == lanes.tobytes()
        with pytest.raises(mmsb.StalePageError, match="not registered"):
            state.page("call").read()
        state.depend("call", on="sum", fn=make.halved)
        state.page("a").write(b"\x63")
        assert state.page("call")[0] == (0x63 * 3 - state.page("b")[0] * 2) % 256 // 2
        assert not state.verify(recompute=True).findings


def test_one_file_checkpoint():
    with mmsb.open(GOLDEN / "v1" / "one-file.ckpt") as state:
        facts = plain(make.facts(state))
        for key in ("seq", "branch", "next_page_id", "pages"):
            assert facts[key] == expected("plain")[key]
        assert state.digest().hex() == expected("plain")["digests"][str(state.seq)]


def test_metadata():
    blob = (GOLDEN / "v1" / "metadata.bin").read_bytes()
    assert encode(make.METADATA) == blob
    back = decode(blob)
    assert math.isnan(back.pop("nan"))
    assert back == {key: value for key, value in make.METADATA.items() if key != "nan"}


def test_golden_files_are_never_made_again():
    before = {path: path.read_bytes() for path in (GOLDEN / "v1").rglob("*") if path.is_file()}
    again = (
        f"import runpy, sys; sys.argv[1:] = ['v1']; runpy.run_path({str(GOLDEN / 'make.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True)
    assert done.returncode == 1 and "never made again" in done.stderr
    assert {path: path.read_bytes() for path in (GOLDEN / "v1").rglob("*") if path.is_file()} == before
