"""Where the C headers are, against which compiled plugins are built."""

from __future__ import annotations

from pathlib import Path


def get_include() -> str:
    """The folder of mmsb's C headers, semiring.h among them: for `include_dirs` of an extension."""
    package = Path(__file__).parent
    installed = package / "include"
    return str(installed if installed.is_dir() else package.parent / "csrc")
