"""Sharing a store with a group of users: who may read its files, and by which socket they attach."""

from __future__ import annotations

import grp
import os

from mmsb._core.files import Files

# New files take the group of their directory; the group enters and reads.
DIRECTORY_MODE, FILE_MODE = 0o2750, 0o640
GID_MOST = (1 << 32) - 2  # the number after it means "none" to the system


def group_id(group: str | int) -> int:
    """The number of a group. ValueError when there is none, TypeError."""
    if isinstance(group, bool) or not isinstance(group, (str, int)):
        raise TypeError(f"group is the name or the number of a group, not {type(group).__name__}")
    try:
        gid = grp.getgrnam(group).gr_gid if isinstance(group, str) else group
    except (KeyError, UnicodeEncodeError):
        gid = -1
    if not 0 <= gid <= GID_MOST:
        raise ValueError(f"There is no group {group!r}. See `getent group`.")
    return gid


def share(files: Files, path: str, gid: int) -> None:
    """Lets a group read the store at `path`: what is there, and what these `files` make there from now on.

    ValueError when this user may not give files to the group.
    """
    try:
        for folder, _, names in os.walk(path):
            files.give(folder, gid, DIRECTORY_MODE)
            for name in names:
                files.give(os.path.join(folder, name), gid, FILE_MODE)
    except PermissionError as error:
        raise ValueError(
            f"You may not share {path} with group {gid} ({error.strerror}). Take a group that you are in."
        ) from error
    files.shared = os.path.join(os.path.abspath(path), "")
