"""What a power cut can leave of the files that a program wrote: every state that a file system may legally show.

The model is hostile, and no more so than ext4, xfs and btrfs are. Of a file whose sync did not come after a write, each
sector of 512 bytes holds what any moment since the last sync gave it (the page cache is written out whenever the kernel
likes), and its size is that of any such moment; what was never written out reads as zeros. Of a directory, any subset
of the names made, renamed and removed since its last sync is there; a rename is one step, for good once both of its
directories were synced. Where nothing is in doubt there is one state.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

SECTOR = 512
# Longer stores into a mapping are taken as several, because the kernel may write the page out in the middle of one.
PIECE = 128
Image = dict[str, bytes | None]  # by path: content, None of a directory


@dataclass
class Inode:
    """One file: the moments at which sectors and size changed, with what they were from then on."""

    # Of sector n: (moments, contents), both ascending in time; the first one is from before everything.
    sectors: dict[int, tuple[list[int], list[bytes]]] = field(default_factory=dict)
    sizes: tuple[list[int], list[int]] = field(default_factory=lambda: ([-1], [0]))
    syncs: tuple[list[int], list[int]] = field(default_factory=lambda: ([-1], [0]))  # moments, what each covers

    def write(self, moment: int, at: int, data: bytes) -> None:
        """Bytes are in the page cache from `moment` on."""
        end = at + len(data)
        for number in range(at // SECTOR, -(-end // SECTOR)):
            start = number * SECTOR
            moments, contents = self.sectors.setdefault(number, ([-1], [bytes(SECTOR)]))
            low, high = max(at, start), min(end, start + SECTOR)
            old = contents[-1]
            new = old[: low - start] + data[low - at : high - at] + old[high - start :]
            if new != old:
                moments.append(moment)
                contents.append(new)
        if end > self.sizes[1][-1]:
            self.resize(moment, end)

    def resize(self, moment: int, size: int) -> None:
        """The file has `size` bytes from `moment` on. What is cut off reads as zeros when it comes back."""
        before = self.sizes[1][-1]
        if size == before:
            return
        if size < before:
            self.write(moment, size, bytes(before - size))
        self.sizes[0].append(moment)
        self.sizes[1].append(size)

    def sync(self, moment: int, covers: int) -> None:
        """What was done before the moment `covers` is durable from `moment` on."""
        self.syncs[0].append(moment)
        self.syncs[1].append(max(covers, self.syncs[1][-1]))

    def durable(self, moment: int) -> int:
        """What was done before the moment that this gives is durable at `moment`."""
        return self.syncs[1][bisect_right(self.syncs[0], moment) - 1]

    def choices(self, moment: int) -> list[tuple[int | None, int, int]]:
        """What is in doubt if the power goes right after `moment`: (sector, or None for the size, first and last place
        in its list).
        """
        floor, found = self.durable(moment), []
        for number, (moments, _) in [(None, self.sizes), *self.sectors.items()]:
            if moments[-1] >= floor:
                last = bisect_right(moments, moment) - 1
                first = min(bisect_right(moments, floor - 1) - 1, last)
                if first < last:
                    found.append((number, first, last))
        return found

    def content(self, moment: int, chosen: dict[int | None, int]) -> bytes:
        """The file's bytes with these choices; what is not in doubt is as it was at `moment`."""
        moments, sizes = self.sizes
        size = sizes[chosen[None] if None in chosen else bisect_right(moments, moment) - 1]
        count = -(-size // SECTOR)
        parts = [ZEROS] * count
        for number, (moments, contents) in self.sectors.items():
            if number < count:
                parts[number] = contents[chosen[number] if number in chosen else bisect_right(moments, moment) - 1]
        return b"".join(parts)[:size]


ZEROS = bytes(SECTOR)


@dataclass
class Step:
    """A change of directory entries: names that go and names that come (with an Inode, or None for a directory)."""

    moment: int
    remove: tuple[str, ...]
    add: tuple[str, Inode | None] | None
    durable: int = 1 << 60  # from this moment on
    folders: set[str] = field(default_factory=set)  # those that are not synced since


class Disk:
    """The files below `root` from an image on, through recorded operations."""

    def __init__(self, root: str | Path, image: Image | None = None) -> None:
        self.root = os.fspath(root)
        self.moment = 0
        self.names: dict[str, Inode | None] = {}
        self.first: dict[str, Inode | None] = {}
        self.steps: list[Step] = []
        self.fresh: list[Step] = []  # not durable yet
        self.inodes: list[Inode] = []
        for path, content in (image or {}).items():
            inode = None
            if content is not None:
                inode = self.make()
                inode.write(-1, 0, content)
                for times, values in (inode.sizes, *inode.sectors.values()):
                    del times[:-1], values[:-1]
            self.first[path] = self.names[path] = inode

    def make(self) -> Inode:
        """A new file."""
        self.inodes.append(Inode())
        return self.inodes[-1]

    def step(self, remove: tuple[str, ...], add: tuple[str, Inode | None] | None) -> None:
        """Directory entries change now."""
        touched = {os.path.dirname(path) for path in (*remove, *([add[0]] if add else []))}
        step = Step(self.moment, remove, add, folders=touched)
        self.steps.append(step)
        self.fresh.append(step)
        for path in remove:
            self.names.pop(path, None)
        if add is not None:
            self.names[add[0]] = add[1]

    def play(self, operations: list[tuple[str, str | None, int, Any, int]]) -> None:
        """Takes operations as Files.operations() gives them. Their moments are 1, 2, ... from the current one on."""
        base = self.moment
        for kind, path, at, what, begun in operations:
            self.moment += 1
            if path is None or not (path + "/").startswith(self.root + "/"):
                continue
            path = path[len(self.root) + 1 :]
            if kind == "close" or (kind == "open" and not at & (os.O_CREAT | os.O_TRUNC)):
                continue
            if kind == "open":
                inode = self.names.get(path)
                if inode is None:
                    self.step((), (path, self.make()))
                elif at & os.O_TRUNC:
                    inode.resize(self.moment, 0)
            elif kind == "pwrite":
                self.file(path).write(self.moment, at, what)
            elif kind == "store":
                for piece in range(0, len(what), PIECE):
                    self.file(path).write(self.moment, at + piece, what[piece : piece + PIECE])
            elif kind == "fallocate":
                inode = self.file(path)
                if inode.sizes[1][-1] < at + what:
                    inode.resize(self.moment, at + what)
            elif kind == "truncate":
                self.file(path).resize(self.moment, at)
            elif kind == "rename":
                to = what[len(self.root) + 1 :]
                self.step((path,), (to, self.names[path]))
            elif kind == "unlink":
                self.step((path,), None)
            elif kind == "mkdir":
                self.step((), (path, None))
            elif kind == "fdatasync" or (kind == "fsync" and self.names.get(path) is not None):
                self.file(path).sync(self.moment, base + begun + 1)
            elif kind == "fsync":
                self.sync_names(path, base + begun + 1)
            else:
                raise ValueError(f"an operation of kind {kind}")

    def file(self, path: str) -> Inode:
        """The file of that name."""
        inode = self.names[path]
        assert inode is not None
        return inode

    def sync_names(self, folder: str, covers: int) -> None:
        """A directory was synced."""
        for step in self.fresh:
            if step.moment < covers:
                step.folders.discard(folder)
                if not step.folders:
                    step.durable = self.moment
        self.fresh = [step for step in self.fresh if step.folders]

    def at(self, moment: int) -> Cut:
        """The power goes right after `moment`."""
        return Cut(self, moment)


class Cut:
    """One moment at which the power goes, and the states that it may leave."""

    def __init__(self, disk: Disk, moment: int) -> None:
        self.disk, self.moment = disk, moment
        made = [step for step in disk.steps if step.moment <= moment]
        self.made = made
        self.doubted = [step for step in made if step.durable > moment]
        # Only files that a name may lead to matter.
        reachable = {id(inode): inode for inode in disk.first.values() if inode is not None}
        reachable |= {id(step.add[1]): step.add[1] for step in made if step.add is not None and step.add[1] is not None}
        self.files = {key: (inode, inode.choices(moment)) for key, inode in reachable.items()}
        self.plain = {key: inode.content(moment, {}) for key, (inode, _) in self.files.items()}

    def count(self, most: int = 1 << 30) -> int:
        """How many combinations of choices there are, `most` at most (some of them give the same state)."""
        total = 1 << min(len(self.doubted), 40)
        for _, choices in self.files.values():
            for _, first, last in choices:
                total *= last - first + 1
                if total >= most:
                    return most
        return min(total, most)

    def all(self) -> Any:
        """Every combination, as pick() gives them."""
        bases = [2] * len(self.doubted)
        places = [(key, number, first, last) for key, (_, found) in self.files.items() for number, first, last in found]
        bases += [last - first + 1 for _, _, first, last in places]
        digits = [0] * len(bases)
        while True:
            lost = {id(step) for step, digit in zip(self.doubted, digits, strict=False) if digit}
            chosen: dict[int, dict[int | None, int]] = {}
            for (key, number, first, _), digit in zip(places, digits[len(self.doubted) :], strict=True):
                chosen.setdefault(key, {})[number] = first + digit
            yield lost, chosen
            for place, base in enumerate(bases):
                digits[place] += 1
                if digits[place] < base:
                    break
                digits[place] = 0
            else:
                return

    def pick(self, dice: Random) -> tuple[set[int], dict[int, dict[int | None, int]]]:
        """One combination at random: the steps that are lost, and by file the places chosen of its sectors and size.

        Most choices of one state lean the same way, so that a single sector that is lost among many that are not comes
        up as often as a file that is lost as a whole.
        """
        lost = set()
        if self.doubted:
            lean = dice.choice((0.0, 0.1, 0.5, 0.9, 1.0))
            lost = {id(step) for step in self.doubted if dice.random() < lean}
        chosen: dict[int, dict[int | None, int]] = {}
        for key, (_, choices) in self.files.items():
            if not choices:
                continue
            lean, chance = dice.choice((0.0, 0.05, dice.random(), dice.random(), 0.95, 1.0)), dice.random
            chosen[key] = {
                number: first + int(chance() * (last - first + 1))
                if chance() < 0.15
                else first
                if chance() < lean
                else last
                for number, first, last in choices
            }
        return lost, chosen

    def image(self, lost: set[int], chosen: dict[int, dict[int | None, int]]) -> Image:
        """The state that one combination gives."""
        names = dict(self.disk.first)
        for step in self.made:
            if id(step) in lost:
                continue
            for path in step.remove:
                # Of a rename whose file's own creation is lost, the new name alone is there.
                names.pop(path, None)
            if step.add is not None:
                names[step.add[0]] = step.add[1]
        image: Image = {}
        for path in sorted(names):
            folder = os.path.dirname(path)
            if folder and folder not in image:
                continue  # its directory is lost
            inode = names[path]
            if inode is None:
                image[path] = None
            elif id(inode) in chosen:
                image[path] = inode.content(self.moment, chosen[id(inode)])
            else:
                image[path] = self.plain[id(inode)]
        return image


class Platter:
    """A folder that shows one image after the other; only what differs is written."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = os.fspath(folder)
        self.shown: Image = {}

    def show(self, image: Image) -> None:
        """The folder holds exactly `image` afterwards."""
        shown = self.shown
        for path in sorted(shown.keys() - image.keys(), reverse=True):
            (os.rmdir if shown[path] is None else os.unlink)(f"{self.folder}/{path}")
        for path in sorted(image):
            content = image[path]
            if path in shown and shown[path] == content:
                continue
            if content is None:
                os.mkdir(f"{self.folder}/{path}", 0o700)
                continue
            # A new file each time: somebody may still map the old one.
            fd = os.open(f"{self.folder}/{path}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.write(fd, content)
            os.close(fd)
        self.shown = dict(image)

    def changed(self, operations: list[tuple[str, str | None, int, Any, int]]) -> None:
        """Somebody did this to the folder: what it touched is taken away, and shown anew next time."""
        touched, folders = set(), set()
        for kind, path, at, what, _ in operations:
            if kind == "mkdir":
                folders.add(path)
            elif kind == "open" and at & (os.O_CREAT | os.O_TRUNC) or kind in ("pwrite", "store", "rename", "unlink"):
                touched |= {path, what} if kind == "rename" else {path}
        touched.discard(None)  # a file that has no name any more
        for path in touched:
            with suppress(FileNotFoundError):
                os.unlink(path)
            self.shown.pop(path[len(self.folder) + 1 :], None)
        for path in sorted(folders, reverse=True):
            os.rmdir(path)
            self.shown.pop(path[len(self.folder) + 1 :], None)
