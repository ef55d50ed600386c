"""mmsb_commands: a plugin's command runs as `mmsb NAME`, and is imported only then."""

import sys

from click.testing import CliRunner

from mmsb.cli.app import PluginCommand, commands

CODE = """
import click
@click.command()
@click.argument("who")
def hello(who):
    "Greets."
    click.echo(f"hello {who}")
"""


def test_hook_mmsb_commands(example, tmp_path, monkeypatch):
    registry, names = example("commands")
    assert names == ["hello"]
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(CODE)
    command = PluginCommand(registry.commands["hello"])
    monkeypatch.setattr("mmsb.cli.app.plugin_commands", lambda: {"hello": command})
    assert "hello       Says hello." in CliRunner().invoke(commands, ["--help"]).output
    assert "my_package.cli" not in sys.modules
    result = CliRunner().invoke(commands, ["hello", "world"])
    assert (result.exit_code, result.output) == (0, "hello world\n")
    assert "WHO" in CliRunner().invoke(commands, ["hello", "--help"]).output
    for name in ("my_package.cli", "my_package"):
        del sys.modules[name]


def test_a_command_that_cannot_be_imported_is_one_sentence(example, monkeypatch):
    registry, _ = example("commands")
    monkeypatch.setattr("mmsb.cli.app.plugin_commands", lambda: {"hello": PluginCommand(registry.commands["hello"])})
    result = CliRunner().invoke(commands, ["hello"])
    assert result.exit_code == 2
    assert "Error: The command 'hello' cannot be used: my_package.cli:hello cannot be imported" in result.output
