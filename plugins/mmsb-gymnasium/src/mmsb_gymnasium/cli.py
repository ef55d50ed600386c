"""`mmsb record` and `mmsb reenact`."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

import mmsb
from mmsb_gymnasium.recorder import Divergence, Recorder, describe
from mmsb_gymnasium.recorder import reenact as run_again
from mmsb_gymnasium.recorder import resume as take_up


def bar(title: str) -> tuple[Any, Any]:
    """(context manager, progress function): a progress bar on standard error, for work over a second."""
    from rich.console import Console
    from rich.progress import Progress

    display = Progress(console=Console(stderr=True), transient=True)
    task = display.add_task(title)
    return display, lambda done, total: display.update(task, completed=done, total=total)


@click.command()
@click.argument("env")
@click.argument("store", type=click.Path())
@click.option("--steps", type=click.IntRange(1), default=1000, show_default=True, help="Steps in all.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--policy", default="random", show_default=True, help="random, or MODULE:CALLABLE.")
@click.option("--kwargs", default="{}", help="Arguments of the environment, as JSON.")
@click.option("--resume", is_flag=True, help="Go on with a recording that was cut short.")
@click.option("--acknowledge", is_flag=True, help="Print every step's number once it is committed.")
@click.option("--json", "as_json", is_flag=True)
def record(env, store, steps, seed, policy, kwargs, resume, acknowledge, as_json) -> None:
    """Records STEPS steps of the Gymnasium environment ENV into STORE, one commit per step."""
    try:
        options = json.loads(kwargs)
        with mmsb.open(store) as state:
            begun = time.perf_counter()
            if state.seq and not resume:
                raise click.ClickException(f"{store} holds a recording already. Use --resume, or another path.")
            if state.seq:
                display, progress = bar("re-enacting")
                with display:
                    recorder = take_up(state, progress)
            else:
                recorder = Recorder(state, describe(env, options, seed, policy))
                recorder.begin()
            resumed = time.perf_counter() - begun
            display, progress = bar("recording")
            with display:
                while recorder.steps < steps:
                    recorder.step()
                    if acknowledge:
                        print(recorder.steps, flush=True)
                    elif recorder.steps % 64 == 0:
                        progress(recorder.steps, steps)
            result = {
                "steps": recorder.steps,
                "commits": state.seq,
                "digest": state.digest().hex(),
                "seconds": time.perf_counter() - begun - resumed,
            }
    except (mmsb.MMSBError, Divergence, ValueError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(result))
    elif not acknowledge:
        click.echo(f"{result['steps']} steps, {result['commits']} commits, digest {result['digest'][:16]}")


@click.command()
@click.argument("store", type=click.Path(exists=True))
@click.option("--json", "as_json", is_flag=True)
def reenact(store, as_json) -> None:
    """Runs the recording in STORE again and compares the digest of every step. Exit code 1 when one differs."""
    display, progress = bar("re-enacting")
    result: dict[str, Any]
    try:
        with mmsb.open(store, read_only=True) as state, display:
            again = run_again(state, progress)
            result = {"steps": again.steps, "same": True, "digest": again.state.digest().hex()}
    except Divergence as error:
        result = {"same": False, "step": error.step, "page": error.page, "start": error.start, "end": error.end}
        result["message"] = str(error)
    except (mmsb.MMSBError, ValueError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(result))
    elif result["same"]:
        click.echo(f"{result['steps']} steps are the same, digest {result['digest'][:16]}")
    else:
        click.echo(result["message"], err=True)
    sys.exit(0 if result["same"] else 1)
