"""`mmsb bench`: every line is measured, the picture shows it, and nothing is left behind."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from click.testing import CliRunner

from mmsb.cli.app import commands
from mmsb.cli.bench import human_time, picture
from mmsb.cli.limits import LIMITS, Share

SVG = "{http://www.w3.org/2000/svg}"


def run(*arguments):
    return CliRunner().invoke(commands, ["bench", "--seconds", "0", *map(str, arguments)], prog_name="mmsb")


def test_every_limit_is_measured(tmp_path):
    result = run("--json", "--folder", tmp_path)
    assert result.exit_code == 0, result.output
    lines = json.loads(result.stdout)
    assert [line["name"] for line in lines] == [limit.name for limit in LIMITS]
    for line in lines:
        assert line["ours_s"] > 0 and line["limit_s"] > 0
        assert line["share"] == pytest.approx(line["limit_s"] / line["ours_s"])
    assert list(tmp_path.iterdir()) == []


def test_the_table_and_the_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("--picture", "limits.svg")
    assert result.exit_code == 0, result.output
    assert all(limit.name in result.stdout for limit in LIMITS)
    assert [path.name for path in tmp_path.iterdir()] == ["limits.svg"]
    texts = [text.text for text in ElementTree.parse(tmp_path / "limits.svg").iter(f"{SVG}text")]
    assert all(limit.name in texts for limit in LIMITS)


def test_a_picture_of_odd_shares():
    shares = [Share("a < b & c", "limit", "x", 2.0, 1.0), Share("fast", "limit", "x", 1.0, 3.0)]
    root = ElementTree.fromstring(picture(shares))
    grey, half, _, whole = [float(bar.get("width")) for bar in root.iter(f"{SVG}rect") if bar.get("x")]
    assert (half, whole) == (grey / 2, grey)
    assert "a < b & c" in [text.text for text in root.iter(f"{SVG}text")]
    assert "300% of limit" in [text.text for text in root.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.234e-9, "1.23 ns"), (4.5e-6, "4.5 us"), (0.25, "250 ms"), (2.0, "2 s")]
)
def test_durations(seconds, text):
    assert human_time(seconds) == text


@pytest.mark.parametrize(
    "arguments",
    [("--folder", "/does/not/exist"), ("--seconds", "-1"), ("--picture", "/"), ("--picture", "/not/there/limits.svg")],
)
def test_wrong_arguments(arguments):
    result = run(*arguments)
    assert result.exit_code == 2 and "Error: Invalid value" in result.output
