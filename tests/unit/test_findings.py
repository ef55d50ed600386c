"""What verify says of each kind of finding, word for word: tests/unit/findings.txt.

After a change of the words: `python tests/unit/test_findings.py` writes that file again; read what came out.
"""

import ctypes
import tempfile
from pathlib import Path

import pytest

import mmsb
from mmsb.checkpoint import decode_image, encode_image
from mmsb.findings import KINDS
from mmsb.log import FileLog
from tests.formats.test_golden import make as golden

TEXTS = Path(__file__).parent / "findings.txt"


def made(path, checkpoints=(10,), before=None, close=True, **how):
    """A store of 41 commits that depends on nothing but this file; closed, or its State."""
    state = golden.open_store(path, 1, **how)
    state.create_page(200, name="a")
    for n in range(40):
        state.page("a").write(bytes([n + 1]) * 20, at=n * 4)
        if n in checkpoints:
            state.checkpoint()
    if before is not None:
        state.compact(before)
    if close:
        state.close()
    return state


def changed(path, offset, bits=0xFF):
    data = bytearray(path.read_bytes())
    data[offset] ^= bits
    path.write_bytes(data)


def reopened(path, **how):
    with mmsb.open(path, read_only=True, **how) as state:
        return state.verify(recompute=True)


def segment(path):
    return path / "log" / "00000001.seg"


def checkpoint(path):
    (found,) = (path / "checkpoints").iterdir()
    return found


def log(path):
    made(path)
    changed(segment(path), 1000)
    return reopened(path)


def damage(path):
    made(path)
    segment(path).unlink()
    return reopened(path)


def anchor(path):
    made(path, checkpoints=(), anchor_key=golden.KEY)
    return reopened(path, anchor_key=bytes(32))


def header(path):
    state = made(path, close=False)
    changed(segment(path), 50)
    report = state.verify()
    changed(segment(path), 50)
    state.close()
    return report


def resealed(path, change):
    image = decode_image(path.read_bytes(), str(path))
    change(image)
    path.write_bytes(encode_image(image, image.pages))


def base(path):
    made(path, before=12)
    resealed(checkpoint(path), lambda image: setattr(image, "digest", bytes(32)))
    return reopened(path)


def checkpoint_differs(path):
    made(path)
    size, epoch, kind, content = decode_image(checkpoint(path).read_bytes(), "").pages[1]
    other = {1: (size, epoch, kind, bytes(content[:7]) + b"other" + bytes(content[12:]))}
    resealed(checkpoint(path), lambda image: setattr(image, "pages", other))
    return reopened(path)


def unusable_checkpoint(path):
    made(path)
    changed(checkpoint(path), 300)
    return reopened(path)


def checkpoint_ahead(path):
    made(path, checkpoints=(30,))
    changed(segment(path), 500)
    return reopened(path)


def memory(path):
    state = made(path, close=False)
    ctypes.memset(state.page("a").view("uint8").ctypes.data + 3, 77, 5)
    report = state.verify()
    state.close()
    return report


def head(path):
    state = made(path, close=False)
    state.sync()
    empty = segment(path).read_bytes()[:128]
    state._log.read_anew = lambda segment: empty.ljust(4096, b"\0")
    state._log.settle = lambda: setattr(state._log.segments[-1], "tail", 128)
    report = state.verify()
    state.close()
    return report


def recompute(path):
    with golden.open_store(path, 1) as state:
        state.create_page(8, name="a")
        state.create_page(8, name="b")
        times = []

        def count(out, parent):
            times.append(parent)
            out[0] = len(times)

        state.depend("b", on="a", fn=count)
        return state.verify(recompute=True)


def identity(path):
    state = made(path, close=False)
    changed(path / "store", 100)
    report = state.verify()
    state.close()
    return report


def horizon(path):
    made(path)
    changed(path / "horizon", 60)
    return reopened(path)


def leftover(path):
    made(path)
    changed(segment(path), 4000)
    return reopened(path)


def stranger(path):
    made(path)
    (path / "log" / "notes.txt").write_text("x")
    return reopened(path)


MAKERS = {
    "log": log,
    "damage": damage,
    "anchor": anchor,
    "header": header,
    "base": base,
    "checkpoint": checkpoint_differs,
    "unusable checkpoint": unusable_checkpoint,
    "checkpoint ahead": checkpoint_ahead,
    "memory": memory,
    "head": head,
    "recompute": recompute,
    "identity": identity,
    "horizon": horizon,
    "leftover": leftover,
    "stranger": stranger,
}


def words(kind, folder, monkeypatch):
    """The text of the first finding of this kind."""
    monkeypatch.setattr(FileLog, "wake", lambda self, state: None)
    path = Path(folder) / "world.mmsb"
    report = MAKERS[kind](path)
    found = next(finding for finding in report.findings if finding.kind == kind)
    lines = (f"[{kind}] {found.severity}", found.sentence, found.meaning, f"To do: {found.advice}")
    return "\n".join(lines).replace(str(path), "STORE") + "\n"


def test_every_kind_has_its_words():
    assert list(MAKERS) == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_words(kind, tmp_path, monkeypatch):
    assert words(kind, tmp_path, monkeypatch) in TEXTS.read_text()


if __name__ == "__main__":
    texts = []
    for each in MAKERS:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            texts.append(words(each, folder, patch))
    TEXTS.write_text("\n".join(texts))
