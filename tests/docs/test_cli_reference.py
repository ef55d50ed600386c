"""docs/reference/cli.md holds the help text of every command, word for word.

After a change of a command: `python tests/docs/test_cli_reference.py` writes the texts into the page again.
"""

import re
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from mmsb.cli.app import BUILT_IN, commands

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
SECTION = re.compile(r"^## `mmsb(?: ([^`]+))?`\n(.*?)^```text\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def names() -> list[str | None]:
    """Every command, and below a group its own."""
    found: list[str | None] = [None]
    for name, module in BUILT_IN.items():
        command = import_module(module).command
        found += [name, *(f"{name} {below}" for below in getattr(command, "commands", ()))]
    return found


def help_text(name: str | None) -> str:
    """What --help prints, 100 columns wide, without plugins."""
    with patch("mmsb.cli.app.plugin_commands", dict):
        words = ["--help"] if name is None else [*name.split(), "--help"]
        return CliRunner().invoke(commands, words, prog_name="mmsb", terminal_width=100).output


def test_every_command_has_its_section_in_the_order_of_the_help():
    assert [match[1] or None for match in SECTION.finditer(PAGE.read_text())] == names()


@pytest.mark.parametrize("name", names())
def test_help_texts_are_those_of_the_page(name):
    page = {match[1] or None: match[3] for match in SECTION.finditer(PAGE.read_text())}
    assert page[name] == help_text(name)


if __name__ == "__main__":
    PAGE.write_text(
        SECTION.sub(
            lambda match: match[0].replace(f"```text\n{match[3]}```", f"```text\n{help_text(match[1] or None)}```"),
            PAGE.read_text(),
        )
    )
