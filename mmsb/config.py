"""What the environment says. The one place on the Python side that reads it."""

from __future__ import annotations

import os
import tempfile


def allowed_plugins() -> frozenset[str] | None:
    """Names in MMSB_PLUGINS (comma-separated; empty: none may load), or None when it is not set: all may."""
    value = os.environ.get("MMSB_PLUGINS")
    return None if value is None else frozenset(name.strip() for name in value.split(",") if name.strip())


def anchor_key() -> bytes | None:
    """The key in the file that MMSB_ANCHOR_KEY_FILE names, None when it is not set. ValueError, OSError."""
    path = os.environ.get("MMSB_ANCHOR_KEY_FILE")
    if not path:
        return None
    with open(path, "rb") as file:
        key = file.read(33)
    if len(key) != 32:
        raise ValueError(f"{path}, which MMSB_ANCHOR_KEY_FILE names, is no anchor key: it has not 32 bytes.")
    return key


def strict_plugins() -> bool:
    """Whether MMSB_PLUGINS_STRICT (anything but 0 and empty) asks that a plugin that fails raises."""
    return os.environ.get("MMSB_PLUGINS_STRICT", "0") not in ("", "0")


def runtime_directory() -> str:
    """Where owners put the sockets by which others find them: XDG_RUNTIME_DIR/mmsb, else mmsb-UID in the directory for
    temporary files.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isabs(base):
        return os.path.join(base, "mmsb")
    return os.path.join(tempfile.gettempdir(), f"mmsb-{os.getuid()}")
