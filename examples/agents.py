"""Three agents and a tool in four processes around one world, which a fifth owns and looks after.

An explorer finds its way through a cave, a builder lays roads from the ore to the base, a judge says what is to be
done and when all is well, and a sounder does what it is asked for: it measures the cave around a place. None of them
knows the others. They read the world from shared memory, follow what happens in it, and change it by asking its
owner. None of them remembers anything: what is done stands in the world. So any of them may be killed at any moment,
and the owner as well. Run the same command again, and the world goes on where it was.

    python examples/agents.py --store cave.mmsb
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import mmsb

HEIGHT, WIDTH = 18, 60
CELLS = HEIGHT * WIDTH
BASE = WIDTH + 1
FLOOR, WALL, ORE = 0, 1, 2
AROUND = (-WIDTH, -1, 1, WIDTH)  # where one can go from a cell; the rim of the cave is wall
EXPLORED, DONE = 0, 1  # what the judge has on its board
RADIUS = 4
PAGES = ("cave", "distance", "traffic", "questions", "answers", "orders", "progress", "board")
TYPES = {"cave": "uint8", "distance": "float64"}  # of the others: int64
Grid = np.ndarray[Any, Any]


# ---- the world


def cave(seed: int) -> Grid:
    """Walls, floor, and ore in places that can be reached."""
    dice = random.Random(seed)
    grid = np.full(CELLS, WALL, "uint8")
    for row in range(1, HEIGHT - 1):
        for column in range(1, WIDTH - 1):
            grid[row * WIDTH + column] = WALL if dice.random() < 0.3 else FLOOR
    row, column = 1, 1
    while column < WIDTH - 2:  # a tunnel, so that there is something to find far away
        grid[row * WIDTH + column] = FLOOR
        down, right = dice.choice(((0, 1), (1, 0), (-1, 0)))
        row, column = min(max(row + down, 1), HEIGHT - 2), column + right
    far = [cell for cell, steps in enumerate(distances(grid)) if np.isfinite(steps) and steps > 8]
    grid[dice.sample(far, 7)] = ORE
    return grid


def distances(grid: Grid) -> Grid:
    """Steps from the base to each cell: what the agents are to find out together, done the ordinary way."""
    steps = np.full(CELLS, np.inf)
    steps[BASE] = 0
    queue = deque([BASE])
    while queue:
        cell = queue.popleft()
        for way in AROUND:
            if grid[cell + way] != WALL and steps[cell + way] == np.inf:
                steps[cell + way] = steps[cell] + 1
                queue.append(cell + way)
    return steps


def route(steps: Grid, cell: int) -> list[int]:
    """The way from a cell to the base: each step to the first neighbour that is nearer."""
    way = [cell]
    while steps[way[-1]] > 0:
        way.append(next(way[-1] + step for step in AROUND if steps[way[-1] + step] == steps[way[-1]] - 1))
    return way


def create(state: mmsb.State, seed: int) -> None:
    """Makes the world in one commit: all of it is there, or nothing."""
    start = np.full(CELLS, np.inf)
    start[BASE] = 0
    with state.batch(source="owner", label="the world") as world:
        world.create_page(CELLS, name="cave", metadata={"seed": seed}, data=cave(seed))
        # Everybody writes these at once, and nothing that is written is lost: the least distance stays, counts add up.
        world.create_page(8 * CELLS, name="distance", merge="min-plus", dtype="float64", data=start)
        world.create_page(8 * CELLS, name="traffic", merge="plus-times", dtype="int64")
        world.create_page(8 * CELLS, name="questions", merge="plus-times", dtype="int64")  # how often each was asked
        world.create_page(8 * CELLS, name="answers", merge="plus-times", dtype="int64")
        world.create_page(8 * 64, name="orders")  # how many roads are wanted, and where each begins
        world.create_page(8 * 2, name="progress")  # roads that are built, and steps of the one under way
        world.create_page(8 * 2, name="board")


class World:
    """The pages as numbers. What is read together is as after one commit."""

    def __init__(self, view: mmsb.View) -> None:
        self.view = view
        self.ids = {name: view.page_id_of(name) for name in PAGES}

    def look(self, *names: str) -> list[Grid]:
        """Several pages of one moment."""
        moment = self.view.snapshot([self.ids[name] for name in names])
        return [np.frombuffer(moment[self.ids[name]], TYPES.get(name, "int64")) for name in names]

    def epoch(self, name: str) -> int:
        """How often a page has changed: who writes with if_epoch= is told when somebody else was faster."""
        return int(self.view.page(self.ids[name]).epoch)


def better(grid: Grid, steps: Grid) -> Grid:
    """Cells to which there is a shorter way than is known."""
    nearest = np.min([np.roll(steps, -way) for way in AROUND], axis=0) + 1
    return np.flatnonzero((nearest < steps) & (grid != WALL))


# ---- the agents. Each does one thing that is to be done, and says whether there was any


def explorer(world: World, dice: random.Random) -> bool:
    """Goes where a shorter way is known than stands in the world. Now and then it asks the sounder to help."""
    grid, steps = world.look("cave", "distance")
    found = better(grid, steps)
    if not len(found):
        return False
    cell = int(dice.choice(found))
    with world.view.batch(source="explorer") as batch:
        nearest = min(steps[cell + way] for way in AROUND)
        batch.write("distance", np.array([nearest + 1]), cell * 8)
        if dice.random() < 0.1:
            batch.write("questions", np.array([1]), cell * 8)
    return True


def sounder(world: World, dice: random.Random) -> bool:
    """The tool: measures the cave around a cell that somebody asked for, and answers in the same commit."""
    grid, steps, asked, answered = world.look("cave", "distance", "questions", "answers")
    open_questions = np.flatnonzero(asked > answered)
    if not len(open_questions):
        return False
    cell = int(open_questions[0])
    steps, middle = steps.copy(), divmod(cell, WIDTH)
    with world.view.batch(source="sounder") as batch:
        for _ in range(2 * RADIUS):
            for near in map(int, better(grid, steps)):
                row, column = divmod(near, WIDTH)
                if abs(row - middle[0]) + abs(column - middle[1]) <= RADIUS:
                    steps[near] = min(steps[near + way] for way in AROUND) + 1
                    batch.write("distance", steps[near : near + 1], near * 8)
        batch.write("answers", np.array([1]), cell * 8)
    return True


def judge(world: World, dice: random.Random) -> bool:
    """Says when the cave is explored, orders a road for each ore, and ends it when all of them are built."""
    epoch = world.epoch("board"), world.epoch("orders")
    grid, steps, orders, progress, board = world.look("cave", "distance", "orders", "progress", "board")
    with suppress(mmsb.ConflictError):  # an earlier life of this judge was faster
        if not board[EXPLORED]:
            if len(better(grid, steps)):
                return False
            ores = np.flatnonzero(grid == ORE)
            with world.view.batch(source="judge", label="explored") as batch:
                batch.write("board", np.array([1]), EXPLORED * 8, if_epoch=epoch[0])
                batch.write("orders", np.array([len(ores), *ores]), if_epoch=epoch[1])
        elif progress[0] == orders[0] and not board[DONE]:
            with world.view.batch(source="judge", label="done") as batch:
                batch.write("board", np.array([1]), DONE * 8, if_epoch=epoch[0])
        else:
            return False
    return True


def builder(world: World, dice: random.Random) -> bool:
    """Lays the next step of the next road. That, and the note of it, are one commit: no step is ever laid twice."""
    epoch = world.epoch("progress")
    steps, orders, progress = world.look("distance", "orders", "progress")
    built, step = map(int, progress)
    if built == orders[0]:
        return False
    way = route(steps, int(orders[1 + built]))
    after = (built, step + 1) if step + 1 < len(way) else (built + 1, 0)
    with suppress(mmsb.ConflictError), world.view.batch(source="builder") as batch:
        batch.write("traffic", np.array([1]), way[step] * 8)
        batch.write("progress", np.array(after), if_epoch=epoch)
    return True


ROLES: dict[str, Callable[[World, random.Random], bool]] = {
    "explorer": explorer, "builder": builder, "judge": judge, "sounder": sounder,
}  # fmt: skip


def live(role: str, store: str, pace: float) -> None:
    """One process: acts while there is something to do, and follows what others do while there is not."""
    dice = random.Random()
    with suppress(mmsb.OwnerGoneError, KeyboardInterrupt), mmsb.attach(store) as view:
        world, act = World(view), ROLES[role]
        others = (commit for commit in view.follow() if commit.source != role)
        while True:
            while act(world, dice):
                time.sleep(dice.random() * pace)
            # Nothing is missed: it follows from before it looked.
            next(others)


# ---- the owner


def look_after(state: mmsb.State, store: str, pace: float) -> Counter[str]:
    """Lets the agents live, again and again if need be, until the judge is content. How often each was started."""
    context = multiprocessing.get_context("spawn")
    alive: dict[str, Any] = {}
    started: Counter[str] = Counter()
    try:
        while not state.page("board").view("int64")[DONE]:
            for role in ROLES:
                if role not in alive or not alive[role].is_alive():
                    alive[role] = context.Process(target=live, args=(role, store, pace), daemon=True)
                    alive[role].start()
                    started[role] += 1
                    print(f"{role} is process {alive[role].pid}", flush=True)
            time.sleep(0.02)
    finally:
        for process in alive.values():
            process.kill()
            process.join()
    return started


def check(state: mmsb.State) -> None:
    """Whatever happened on the way, this is how it ends. AssertionError."""
    grid, distance, traffic = (np.frombuffer(state.page(name).read(), TYPES.get(name, "int64")) for name in PAGES[:3])
    right = distances(grid)
    roads = np.zeros(CELLS, "int64")
    for ore in np.flatnonzero(grid == ORE):
        np.add.at(roads, route(right, int(ore)), 1)
    assert (distance == right).all(), "the distances are wrong"
    assert (traffic == roads).all(), "a step of a road is missing, or was laid twice"
    assert state.at(state.seq).digest() == state.digest(), "replay gives another world"


def picture(state: mmsb.State) -> Grid:
    """A letter for each cell."""
    grid, distance, traffic = (np.frombuffer(state.page(name).read(), TYPES.get(name, "int64")) for name in PAGES[:3])
    cells = np.where(grid == WALL, "#", np.where(np.isfinite(distance), ".", " "))
    cells = np.where(traffic > 0, np.minimum(traffic, 9).astype("U1"), cells)
    cells[grid == ORE], cells[BASE] = "$", "@"
    return cells.reshape(HEIGHT, WIDTH)


def paint(cells: Grid, path: Path) -> None:
    """The same as an image, where pillow is installed."""
    try:
        from PIL import Image
    except ImportError:
        print("pillow is not installed: no image")
        return
    colours = {"#": (58, 50, 47), ".": (214, 203, 184), " ": (24, 20, 18), "$": (240, 190, 40), "@": (60, 130, 200)}
    pixels = np.array([[colours.get(cell, (178, 92, 52)) for cell in row] for row in cells], "uint8")
    Image.fromarray(pixels).resize((WIDTH * 12, HEIGHT * 12), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Owns the world until it is done, and shows it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", help="where the world is kept (default: a directory that goes away)")
    parser.add_argument("--seed", type=int, default=3, help="of a world that is not there yet")
    parser.add_argument("--pace", type=float, default=0.002, help="seconds that an agent rests at most")
    parser.add_argument("--png", type=Path, help="paints the world into this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or f"{folder}/cave.mmsb"
        with mmsb.open(store) as state:
            if "cave" not in state:
                create(state, options.seed)
            state.serve(commands={"pages": PAGES[1:]})  # nobody changes the cave itself
            started = look_after(state, store, options.pace)
            check(state)
            cells = picture(state)
            print("\n".join(map("".join, cells)))
            for source, count in sorted(Counter(commit.source for commit in state.log()).items()):
                print(f"{source}: {count} commits", f"started {started[source]} times" if source in started else "")
            print(f"done: {state.seq} commits, digest {state.digest().hex()[:16]}")
            if options.png:
                paint(cells, options.png)


if __name__ == "__main__":
    main()
