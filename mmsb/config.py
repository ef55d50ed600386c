"""What the environment says. The one place on the Python side that reads it."""

from __future__ import annotations

import os


def allowed_plugins() -> frozenset[str] | None:
    """Names in MMSB_PLUGINS (comma-separated; empty: none may load), or None when it is not set: all may."""
    value = os.environ.get("MMSB_PLUGINS")
    return None if value is None else frozenset(name.strip() for name in value.split(",") if name.strip())


def strict_plugins() -> bool:
    """Whether MMSB_PLUGINS_STRICT=1 asks that a plugin that fails raises."""
    return os.environ.get("MMSB_PLUGINS_STRICT") == "1"
