"""Records 3,000 steps of ALE/Breakout-v5, kills the recorder on the way, recovers, and proves that nothing was lost."""

from __future__ import annotations

import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mmsb_gymnasium.recorder import Recorder, World, describe

import mmsb

ENVIRONMENT, STEPS, SEED = "ALE/Breakout-v5", 3000, 7
OUT = Path("demo-out")
STORE = OUT / "breakout.mmsb"


def say(text: str) -> None:
    """One line of progress."""
    print(f"* {text}", flush=True)


def command(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs `mmsb ...` as a user would."""
    return subprocess.run([sys.executable, "-m", "mmsb", *arguments], check=check, capture_output=True, text=True)


def record_and_kill(at: int) -> int:
    """Starts the recorder and kills it with SIGKILL once step `at` is acknowledged. The last acknowledged step."""
    recorder = subprocess.Popen(
        [sys.executable, "-m", "mmsb", "record", ENVIRONMENT, str(STORE), "--steps", str(STEPS), "--seed", str(SEED),
         "--acknowledge"],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    acknowledged = 0
    assert recorder.stdout is not None
    for line in recorder.stdout:
        acknowledged = int(line)
        if acknowledged == at:
            recorder.send_signal(signal.SIGKILL)
    if recorder.wait() != -signal.SIGKILL:
        raise SystemExit("the recorder ended before it was killed")
    return acknowledged


def overhead(steps: int = 600) -> float:
    """Seconds per step with recording, divided by seconds per step of the bare game: the median of three pairs."""
    notes = describe(ENVIRONMENT, {}, SEED, "random")
    ratios = []
    for turn in range(3):
        bare = World(notes)
        begun = time.perf_counter()
        for _ in range(steps):
            bare.step()
        without = time.perf_counter() - begun
        path = OUT / f"overhead-{turn}"
        with mmsb.open(path) as state:
            recorder = Recorder(state, notes)
            recorder.begin()
            begun = time.perf_counter()
            for _ in range(steps):
                recorder.step()
            ratios.append((time.perf_counter() - begun) / without)
        shutil.rmtree(path)
    return statistics.median(ratios)


def main() -> None:
    """The demonstration."""
    from rich.console import Console
    from rich.table import Table

    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    facts: dict[str, Any] = {}

    kill_at = random.Random(SEED).randint(STEPS // 3, 2 * STEPS // 3)
    say(f"recording {ENVIRONMENT}; SIGKILL comes at step {kill_at}")
    acknowledged = record_and_kill(kill_at)
    begun = time.perf_counter()
    with mmsb.open(STORE) as state:
        facts["recovery"] = time.perf_counter() - begun
        recovered = state.seq - 1
    if recovered < acknowledged:
        raise SystemExit(f"steps {recovered + 1} to {acknowledged} were acknowledged and are lost")
    say(f"killed after step {acknowledged} was acknowledged; {recovered} steps recovered, none lost")

    say("resuming: the game is run again up to there, every digest compared, then on to the end")
    command("record", ENVIRONMENT, str(STORE), "--steps", str(STEPS), "--seed", str(SEED), "--resume")
    say("mmsb verify")
    command("verify", str(STORE))
    say("mmsb reenact")
    again = json.loads(command("reenact", str(STORE), "--json").stdout)

    with mmsb.open(STORE, read_only=True) as state:
        if not again["same"] or again["digest"] != state.digest().hex():
            raise SystemExit(f"the re-enactment differs: {again}")
        height, width, depth = json.loads(str(state.page("observation").metadata["shape"]))
        for step in (STEPS // 10, STEPS // 2, STEPS):
            command(
                "show", str(STORE), "observation", "--at", f"step {step}", "--dtype", "uint8",
                "--shape", f"{height},{width},{depth}", "--as", "png", "-o", str(OUT / f"step-{step}.png"),
            )  # fmt: skip
        say(f"screens of three steps are in {OUT}/")
        dice = random.Random(SEED)
        took = []
        for _ in range(200):
            seq = dice.randint(1, state.seq)
            begun = time.perf_counter()
            state.at(seq).page("observation").read()
            took.append(time.perf_counter() - begun)
        touched = sum(page.size for page in state.pages()) * STEPS
        log_bytes = state.stats()["log"]["bytes"]
        facts.update(
            steps=STEPS,
            commits=state.seq,
            state_bytes=touched,
            log_bytes=log_bytes,
            ratio=touched / log_bytes,
            random_access=statistics.median(took),
            digest=state.digest().hex(),
        )
    facts["overhead"] = overhead()
    (OUT / "table.json").write_text(json.dumps(facts, indent=2))

    table = Table(title=f"{ENVIRONMENT}, {STEPS} steps, seed {SEED}")
    table.add_column("what")
    table.add_column("measured", justify="right")
    for row in (
        ("steps", f"{facts['steps']:,}"),
        ("commits", f"{facts['commits']:,}"),
        ("bytes of state touched", f"{facts['state_bytes']:,}"),
        ("bytes of log", f"{facts['log_bytes']:,}"),
        ("ratio", f"{facts['ratio']:.0f} : 1"),
        ("recording, against the bare game", f"{facts['overhead']:.2f} x"),
        ("recovery after SIGKILL", f"{facts['recovery'] * 1e3:.1f} ms"),
        ("random access to a screen, median", f"{facts['random_access'] * 1e3:.2f} ms"),
        ("digest", facts["digest"][:32]),
    ):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
