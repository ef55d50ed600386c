"""The plugin: the commands `mmsb record` and `mmsb reenact`. Nothing heavy is imported here."""

from mmsb.plugin import CommandSpec, hookimpl

MMSB_API = 1


@hookimpl
def mmsb_commands():
    """Record and reenact."""
    return [
        CommandSpec("record", "Records a Gymnasium environment, one commit per step.", "mmsb_gymnasium.cli:record"),
        CommandSpec(
            "reenact", "Runs a recorded environment again and compares every step.", "mmsb_gymnasium.cli:reenact"
        ),
    ]
