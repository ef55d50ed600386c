"""Every command: what it prints, its JSON, its exit status, and what it says of bad input."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import mmsb
from mmsb.cli import commits
from mmsb.cli.app import BUILT_IN, commands
from mmsb.cli.common import Place
from mmsb.cli.output import as_json, human_bytes, human_bytes_rate, human_count, human_rate, printable, utc
from mmsb.cli.png import encode_png
from mmsb.cli.show import hex_lines

GOLDEN = Path(__file__).parents[1] / "golden" / "upstream"
READERS = {
    "info": [],
    "pages": [],
    "log": [],
    "show": ["screen"],
    "diff": ["1", "2"],
    "replay": [],
    "verify": [],
}


def run(*words, code=0):
    result = CliRunner().invoke(commands, [str(word) for word in words], prog_name="mmsb")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def document(*words, code=0):
    return json.loads(run(*words, "--json", code=code).stdout)


def process(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "mmsb", *map(str, words)], capture_output=True, text=True, timeout=60, **options
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of 5 commits: screen (id 1), notes (id 2), the label "tick", a page that is gone (id 3)."""
    path = tmp_path_factory.mktemp("store") / "world.mmsb"
    with mmsb.open(path) as state:
        screen = state.create_page(24, name="screen", metadata={"dtype": "uint8", "shape": "2,4,3", "k": b"\0"})
        screen.write(bytes(range(24)), source="game")
        with state.batch(source="agent", label="tick", intent={"why": "test"}) as batch:
            batch.create_page(name="notes", data="grüße\n".encode())
            batch.create_page(8)
            batch.write(screen, b"\xff", at=3)
        state.delete_page(3)
        state.page("notes").write(b"G")
    return path


@pytest.fixture
def store(made, tmp_path):
    path = tmp_path / "world.mmsb"
    shutil.copytree(made, path)
    return path


# ---- the program


def test_module_and_version():
    result = process("--version")
    assert (result.returncode, result.stdout) == (0, f"mmsb {mmsb.__version__}\n")


def test_help_needs_no_heavy_module():
    code = (
        "import sys\nfrom mmsb.cli import main\nsys.argv = ['mmsb', '--help']\n"
        "heavy = 'numpy', 'rich', 'blake3', 'textual'\n"
        "try: main()\nexcept SystemExit: pass\nprint([m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]" and "import" in result.stdout


def test_unknown_command_and_option():
    assert "No such command" in run("nonsense", code=2).output
    assert "No such option" in run("info", "--nonsense", code=2).output


def test_commands_of_plugins_are_asked_for_only_when_needed():
    asked = []

    @click.command("extra")
    def extra():
        """A plugin's command."""
        click.echo("extra runs")

    def load():
        asked.append(True)
        return {"extra": extra}

    with patch("mmsb.cli.app.plugin_commands", load):
        run("info", "--help")
        assert not asked
        assert run("extra").stdout == "extra runs\n"
        assert "A plugin's command." in run("--help").stdout


def test_cpu():
    report = mmsb.cpu_report()
    assert document("cpu") == report
    text = run("cpu").stdout
    assert all(name in text for name in ("detected", "disabled", "used", *report["kernels"]))


def test_cpu_lowered_by_the_environment():
    result = process("cpu", "--json", env=os.environ | {"MMSB_DISABLE_CPU": "avx2,avx512"})
    assert not {"avx2", "avx512"} & set(json.loads(result.stdout)["used"])
    result = process("cpu", env=os.environ | {"MMSB_DISABLE_CPU": "nonsense"})
    assert result.returncode == 2 and "nonsense" in result.stderr and "Traceback" not in result.stderr


def test_a_wrong_environment_is_a_usage_error(store):
    result = process("info", str(store), env=os.environ | {"MMSB_DISABLE_CPU": "nonsense"})
    assert result.returncode == 2 and "nonsense" in result.stderr and "Traceback" not in result.stderr


def test_a_store_with_keyed_anchors(tmp_path):
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    with mmsb.open(tmp_path / "s", anchor_key=key.read_bytes()) as state:
        state.create_page(8)
    assert "MMSB_ANCHOR_KEY_FILE" in process("verify", str(tmp_path / "s")).stderr
    result = process("verify", str(tmp_path / "s"), env=os.environ | {"MMSB_ANCHOR_KEY_FILE": str(key)})
    assert result.returncode == 0 and "nothing found" in result.stdout
    key.write_bytes(bytes(31))
    result = process("verify", str(tmp_path / "s"), env=os.environ | {"MMSB_ANCHOR_KEY_FILE": str(key)})
    assert result.returncode == 2 and "32 bytes" in result.stderr


# ---- reading commands


def test_info(store):
    facts = document("info", store)
    with mmsb.open(store, read_only=True) as state:
        assert facts["digest"] == state.digest().hex() and facts["uuid"] == state.uuid.hex()
    assert {name: facts[name] for name in ("seq", "first_seq", "pages", "page_bytes", "branch")} == {
        "seq": 5,
        "first_seq": 0,
        "pages": 2,
        "page_bytes": 32,
        "branch": 0,
    }
    assert set(facts) >= {"path", "durable_seq", "time_ns", "stats"}
    assert facts["digest"] in run("info", store).stdout


def test_pages(store):
    listed = document("pages", store)
    assert [(page["page_id"], page["name"], page["size"], page["epoch"]) for page in listed] == [
        (1, "screen", 24, 2),
        (2, "notes", 8, 1),
    ]
    assert listed[0]["metadata"] == {"dtype": "uint8", "k": {"hex": "00"}, "shape": "2,4,3"}
    assert listed[0]["location"] == "cpu"
    assert "screen" in run("pages", store).stdout
    assert [page["page_id"] for page in document("pages", store, "--at", "tick")] == [1, 2, 3]
    assert document("pages", store, "--at", 0) == [] and run("pages", store, "--at", 0).stdout == "no pages\n"


def log_lines(store, *words):
    return [json.loads(line) for line in run("log", store, "--json", *words).stdout.splitlines()]


def test_integers_too_long_for_decimals_are_shown_in_hexadecimal(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        state.create_page(8, metadata={"long": 16**5000, "short": 7})
    assert "long=0x1000" in run("pages", tmp_path / "s").output
    [page] = json.loads(run("pages", tmp_path / "s", "--json").output)
    assert page["metadata"] == {"long": hex(16**5000), "short": 7}


def test_log(store):
    commits = log_lines(store)
    assert [commit["seq"] for commit in commits] == [1, 2, 3, 4, 5]
    tick = commits[2]
    assert (tick["source"], tick["label"], tick["intent"]) == ("agent", "tick", {"why": "test"})
    assert [(change["kind"], change["page_id"]) for change in tick["changes"]] == [("create", 2), ("create", 3)]
    assert tick["deltas"] == [{"page_id": 1, "index": 0, "nbytes": 1, "ranges": [[3, 1]]}]
    assert all(commit["nbytes"] > 0 and commit["time_ns"] > 0 for commit in commits)
    text = run("log", store).stdout
    assert "tick" in text and "create 2 (8 B)" in text and "delete 3" in text


def test_log_filters(store):
    def seqs(*words):
        return [commit["seq"] for commit in log_lines(store, *words)]

    assert seqs("--source", "agent") == [3] and seqs("--label", "tick") == [3]
    assert seqs("--page", "3") == [3, 4] and seqs("--since", "tick") == [3, 4, 5]
    assert seqs("--page", "notes") == [3, 5] and seqs("--page", "1") == [1, 2, 3]
    assert seqs("--since", "2", "--until", "3") == [2, 3] and seqs("--kind", "delete") == [4]
    assert seqs("--last", "2") == [4, 5] and seqs("--last", "2", "--until", "3") == [2, 3]
    assert seqs("--limit", "1") == [1] and seqs("--last", "99") == [1, 2, 3, 4, 5]
    result = run("log", store, "--limit", "2")
    assert "There are more commits" in result.stderr and "tick" not in result.stdout
    assert run("log", store, "--source", "nobody").stdout == "no commits\n"
    for words in ("--page 99", "--page nobody", "--kind x", "--since x", "--since 1 --last 1"):
        assert "Error: " in run("log", store, *words.split(), code=2).stderr


def test_log_knows_every_kind():
    from mmsb._core.index import KINDS

    assert set(commits.KINDS) == set(KINDS) - {"source"}


def test_show_hex_and_places(store):
    head = run("show", store, "screen").stdout
    assert head.splitlines()[0] == "00000000  00 01 02 ff 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  |................|"
    assert run("show", store, "1").stdout == run("show", store, "screen", "--at", "tick").stdout == head
    assert "03 04" in run("show", store, "screen", "--at", "2").stdout
    assert document("show", store, "screen", "--offset", 2, "--length", 3) == {
        "page_id": 1,
        "name": "screen",
        "size": 24,
        "epoch": 2,
        "seq": 5,
        "offset": 2,
        "hex": "02ff04",
    }
    now = commit_time(store, 2)
    assert document("show", store, "screen", "--at", now)["seq"] == 2


def commit_time(store, seq):
    return utc(log_lines(store)[seq - 1]["time_ns"] + 1000).replace(" ", "T")


def test_show_text_raw_array(store, tmp_path):
    assert run("show", store, "notes", "--as", "text").stdout == "Grüße\n\n"
    out = tmp_path / "raw"
    run("show", store, "screen", "--as", "raw", "-o", out)
    assert out.read_bytes() == b"\0\1\2\xff" + bytes(range(4, 24))
    assert document("show", store, "screen", "--as", "array")["array"][0][1] == [255, 4, 5]
    assert document("show", store, "screen", "--dtype", "<u2", "--shape", "12")["array"][:2] == [0x100, 0xFF02]
    assert "[  2 255]]" in run("show", store, "screen", "--length", 4, "--shape", "2,2").stdout


def test_show_escapes_what_a_terminal_would_obey(tmp_path):
    with mmsb.open(tmp_path / "s") as state:
        state.create_page(name="a\x1b[31m", data=b"x\x1b[2J\ty")
    assert run("show", tmp_path / "s", "1", "--as", "text").stdout == "x\\x1b[2J\ty\n"
    assert "\x1b" not in run("pages", tmp_path / "s").stdout


def test_show_png(store, tmp_path):
    from PIL import Image

    out = tmp_path / "screen.png"
    run("show", store, "screen", "--as", "png", "-o", out)
    with Image.open(out) as image:
        assert (image.mode, image.size) == ("RGB", (4, 2)) and image.tobytes()[:6] == b"\0\1\2\xff\4\5"
    assert run("show", store, "screen", "--as", "png", "--shape", "4x6").stdout_bytes.startswith(b"\x89PNG")
    for words in (["--shape", "24"], ["--shape", "5,5"], ["--dtype", "float32"], ["--shape", "2,x"]):
        run("show", store, "screen", "--as", "png", *words, "-o", out, code=2)


@given(st.sampled_from([1, 2, 3, 4]), st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_png_says_what_pillow_reads(channels, height, width, chance):
    from PIL import Image

    data = chance.randbytes(height * width * channels)
    with Image.open(io.BytesIO(encode_png(data, height, width, channels))) as image:
        assert image.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        assert image.size == (width, height) and image.tobytes() == data


@pytest.mark.parametrize("shape", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 5), (2, 2, 1), (-1, -1, 1)])
def test_png_refuses_what_is_no_image(shape):
    with pytest.raises(ValueError, match="not"):
        encode_png(b"x", *shape)


@pytest.mark.parametrize(
    "words",
    [
        ["nobody"],
        ["99"],
        ["screen", "--at", "no such label"],
        ["screen", "--at", "99"],
        ["screen", "--offset", "25"],
        ["screen", "--offset", "20", "--length", "9"],
        ["screen", "--dtype", "nonsense"],
        ["screen", "--dtype", "object"],
        ["screen", "--dtype", "f4,(1000000000,)f8"],
        ["screen", "--dtype", "f4,("],
        ["screen", "--shape", "7"],
        ["screen", "--at", "0"],
    ],
)
def test_show_says_no(store, words):
    result = run("show", store, *words, code=2)
    assert result.stdout == "" and "Error: " in result.stderr and "Traceback" not in result.stderr


def test_diff_of_one_store(store):
    facts = document("diff", store, 2, 5)
    assert (facts["a"], facts["b"], facts["equal"]) == (2, 5, False)
    assert [(page["page_id"], page["what"], page["ranges"]) for page in facts["pages"]] == [
        (1, "changed", [[3, 1]]),
        (2, "created", []),
    ]
    assert facts["pages"][0]["epoch"] == [1, 2]
    assert "1 B: 3+1" in run("diff", store, 2, "tick").stdout
    assert document("diff", store, 5)["equal"] and "no page differs" in run("diff", store, 5, 5).stdout
    run("diff", store, 2, 5, "--exit-code", code=1)
    run("diff", store, 5, "--exit-code")
    run("diff", store, code=2)


def test_diff_of_two_stores(store, made, tmp_path):
    assert document("diff", store, "--against", made)["equal"]
    with mmsb.open(store) as state:
        state.page("screen").write(b"zz", at=10)
        state.page("notes").rename("remarks")
    pages = document("diff", made, "--against", store)["pages"]
    assert [(page["page_id"], page["ranges"], page["name"]) for page in pages] == [
        (1, [[10, 2]], ["screen", "screen"]),
        (2, [], ["notes", "remarks"]),
    ]
    text = run("diff", made, "--against", store).stdout
    assert "2 B: 10+2" in text and "notes -> remarks" in text
    assert document("diff", store, 5, "--against", made)["equal"]


def test_replay(store):
    facts = document("replay", store)
    assert (facts["seq"], facts["commits"], facts["divergence"]) == (5, 5, None)
    assert facts["digest"] == document("info", store)["digest"] and facts["duration_ns"] > 0
    assert document("replay", store, "--until", 2)["digest"] != facts["digest"]
    assert "equal to the store" in run("replay", store).stdout
    assert "lies beyond it" in run("replay", store, "--until", 6, code=2).stderr


def test_replay_names_the_first_divergence(store):
    """A time travel that lies from seq 4 on, as a damaged checkpoint would make it."""
    honest = mmsb.State.at

    class Lying:
        def __init__(self, view):
            self.view, self.seq = view, view.seq

        def digest(self):
            return bytes(32)

        def pages(self):
            page = self.view.page(1)

            class Bent:
                page_id, size, epoch = page.page_id, page.size, page.epoch
                read = staticmethod(lambda: b"\0\1\2xyz" + page.read()[6:])

            return [Bent, *self.view.pages()[1:]]

    def at(self, when):
        view = honest(self, when)
        return Lying(view) if view.seq >= 4 else view

    with patch.object(mmsb.State, "at", at):
        facts = document("replay", store, "--until", 5, code=1)
        assert facts["divergence"] == {"seq": 4, "page_id": 1, "what": "bytes 3 to 6 differ", "start": 3, "end": 6}
        assert "first divergence: seq 4, page 1: bytes 3 to 6" in run("replay", store, "--until", 5, code=1).stdout


def test_verify(store):
    facts = document("verify", store)
    assert (facts["store"], facts["seq"], facts["findings"], facts["commits"]) == (str(store), 5, [], 5)
    assert set(facts) >= {"segments", "frames", "anchors", "checkpoints"}
    assert "nothing found in 1 segments, 5 commits" in run("verify", store).stdout


# ---- writing commands


def test_checkpoint(store):
    assert document("checkpoint", store)["seq"] == 5
    assert "checkpoint at seq 5" in run("checkpoint", store).stdout
    run("verify", store)


def test_compact(tmp_path):
    store = tmp_path / "long.mmsb"
    with mmsb.open(store, segment_bytes=4096) as state:
        page = state.create_page(64, name="p")
        for number in range(500):
            page.write(number.to_bytes(4, "little"), at=number % 60)
        with state.batch(label="half"):
            pass
        for number in range(500):
            page.write(number.to_bytes(4, "little"), at=number % 60)
        digest = state.digest().hex()
    half = document("pages", store, "--at", "half")
    trial = document("compact", store, "--before", "half", "--dry-run")
    assert trial["dry_run"] and trial["first_seq"] > 400 and trial["bytes_freed"] > 4096
    assert document("info", store)["first_seq"] == 0
    assert f"oldest state  seq {trial['first_seq']}" in run("compact", store, "--before", "half").stdout
    facts = document("info", store)
    assert facts["first_seq"] == trial["first_seq"] and facts["digest"] == digest
    assert document("pages", store, "--at", "half") == half
    assert str(trial["first_seq"]) in run("show", store, "p", "--at", 2, code=2).stderr
    run("verify", store)
    assert document("replay", store)["digest"] == digest


def test_import_golden(tmp_path):
    facts = document("import", GOLDEN / "test.tlog", tmp_path / "a")
    assert (facts["frames"], facts["pages"], facts["seq"], facts["faults"]) == (1, 1, 1, 0)
    assert document("show", tmp_path / "a", "page-42")["hex"] == "2a"
    assert "checkpoint, version 1" in run("import", GOLDEN / "test.chk", tmp_path / "b").stdout
    assert run("show", tmp_path / "b", "page-42", "--as", "text").stdout == "*" + "c" * 4095 + "\n"
    assert log_lines(tmp_path / "a")[0]["intent"] == {"upstream_delta_id": 1, "upstream_epoch": 1}
    run("verify", tmp_path / "a")


def test_import_damaged_and_refused(tmp_path):
    whole = (GOLDEN / "test.tlog").read_bytes()
    (tmp_path / "cut.tlog").write_bytes(whole + whole[12:40])
    result = run("import", tmp_path / "cut.tlog", tmp_path / "a", code=1)
    assert "torn tail" in result.stdout and "faults" in result.stdout
    assert document("import", tmp_path / "cut.tlog", "--dry-run", code=1)["store"] is None
    (tmp_path / "cut.chk").write_bytes((GOLDEN / "test.chk").read_bytes()[:-1])
    run("import", tmp_path / "cut.chk", tmp_path / "b", code=1)
    assert not (tmp_path / "b").exists()
    (tmp_path / "new.tlog").write_bytes(b"MMSBLOG1" + struct.pack("<I", 9))
    assert "version 9" in run("import", tmp_path / "new.tlog", tmp_path / "b", code=2).stderr
    run("import", tmp_path / "cut.tlog", tmp_path / "a", code=2)
    run("import", GOLDEN / "test.tlog", code=2)
    run("import", GOLDEN / "README.md", tmp_path / "b", code=2)
    assert not (tmp_path / "b").exists()


# ---- stores that are none, damaged, newer, held


@pytest.mark.parametrize("name", [*READERS, "checkpoint", "compact"])
def test_bad_paths(name, tmp_path):
    words = READERS.get(name, ["--before", "1"] if name == "compact" else [])
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"no store at all")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thing").touch()
    for path in ("missing", "empty", "file", "other"):
        result = run(name, tmp_path / path, *words, code=2)
        assert result.stdout == "" and str(tmp_path / path) in result.stderr.replace("\n", "")
    assert sorted(os.listdir(tmp_path)) == ["empty", "file", "other"] and os.listdir(tmp_path / "empty") == []


def test_newer_format(store):
    identity = bytearray((store / "store").read_bytes())
    identity[8:12] = struct.pack("<I", 7)
    identity[-4:] = struct.pack("<I", crc32c(bytes(identity[:-4])))
    (store / "store").write_bytes(identity)
    for name, words in READERS.items():
        assert "newer" in run(name, store, *words, code=2).stderr


def crc32c(data):
    from mmsb._core.log import crc32c as checksum

    return checksum(data)


def without_checkpoints(store):
    shutil.rmtree(store / "checkpoints")
    (store / "checkpoints").mkdir()
    return next((store / "log").iterdir())


def test_damaged_log_is_read_up_to_the_damage_and_is_a_fault(store):
    segment = without_checkpoints(store)
    content = bytearray(segment.read_bytes())
    content[content.index(b"agent")] ^= 1
    segment.write_bytes(content)
    result = run("info", store, "--json", code=1)
    error = json.loads(result.stderr)["error"]
    assert error["type"] == "CorruptLogError" and error["facts"]["path"] == str(segment)
    assert (error["facts"]["seq"], json.loads(result.stdout)["seq"]) == (3, 2)
    result = run("replay", store, code=1)
    assert "seq 0 to 2" in result.stdout and "is damaged at offset" in result.stderr
    assert run("show", store, "notes", code=2).stderr.startswith("Error: ")
    findings = document("verify", store, code=1)["findings"]
    assert [finding["seq"] for finding in findings][0] == 3 and findings[0]["path"] == str(segment)
    assert "is damaged" in run("verify", store, code=1).stdout
    assert "is damaged" in run("checkpoint", store, code=1).stderr


def test_truncated_segment(store):
    segment = without_checkpoints(store)
    segment.write_bytes(segment.read_bytes()[:160])
    assert "Error: " in run("pages", store, code=1).stderr


def test_truncated_identity(store):
    (store / "store").write_bytes((store / "store").read_bytes()[:100])
    assert "damaged" in run("info", store, code=1).stderr


def test_readers_work_beside_a_writer_and_writers_name_it(store):
    with mmsb.open(store) as state:
        state.page("screen").write(b"live", at=0)
        assert document("info", store)["seq"] == 6
        assert document("show", store, "screen", "--length", 4)["hex"] == b"live".hex()
        for name, words in READERS.items():
            assert process(name, store, *words).returncode == 0
        for words in (["checkpoint"], ["compact", "--before", "3"]):
            result = process(words[0], store, *words[1:])
            assert result.returncode == 2 and f"pid {os.getpid()}" in result.stderr
            assert len(result.stderr.splitlines()) == 1
        assert state.seq == 6


# ---- small things


def test_places():
    convert = Place().convert
    assert convert("12", None, None) == 12 and convert("label:12", None, None) == "12"
    assert convert("tick 1", None, None) == "tick 1" and convert("2026-x", None, None) == "2026-x"
    when = convert("2026-01-31T12:00:00", None, None)
    assert when.isoformat() == "2026-01-31T12:00:00+00:00"
    assert convert("2026-01-31T12:00:00+01:00", None, None).utcoffset().total_seconds() == 3600


def test_hex_lines():
    assert list(hex_lines(b"")) == []
    assert list(hex_lines(bytes(64)))[1:3] == [
        "*",
        "00000030  " + " ".join(["00"] * 8) + "  " + " ".join(["00"] * 8) + "  |" + "." * 16 + "|",
    ]
    assert list(hex_lines(b"abc", 32)) == [f"00000020  {'61 62 63':<23}  {'':<23}  |abc|"]


def test_output_helpers():
    assert printable("a\x1b\n\u202eb\udc80") == "a\\x1b\\n\\u202eb\\udc80"
    assert as_json({"a": (b"\1", float("inf"), 1.5, None, {1: True})}) == {
        "a": [{"hex": "01"}, "inf", 1.5, None, {"1": True}]
    }
    assert [human_bytes(count) for count in (0, 1023, 1536, 1 << 30, 1 << 50)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "1.0 GiB",
        "1024.0 TiB",
    ]
    assert [human_rate(rate) for rate in (None, 0, 0.04, 9.99, 12345.6)] == ["", "0/s", "0.04/s", "10/s", "12,346/s"]
    assert (human_count(1, "page"), human_count(1000, "page")) == ("1 page", "1,000 pages")
    assert human_bytes_rate(1535.7) == "1.5 KiB/s"
    assert utc(0) == "1970-01-01 00:00:00.000000" and utc(2**64).startswith("2554-") and utc(10**30).endswith(" ns")


def test_every_command_explains_itself():
    for name in BUILT_IN:
        assert "Usage: mmsb" in run(name, "--help").stdout
