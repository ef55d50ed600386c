"""Environments and policies as bytes: observations flattened to arrays, actions encoded, the agent's own state."""

from __future__ import annotations

import importlib
import json
from typing import Any

import gymnasium
import numpy


def make_environment(env_id: str, kwargs: dict[str, Any]) -> gymnasium.Env:
    """The environment of an id; Atari games are registered when ale-py is installed."""
    if env_id.startswith("ALE/"):
        import ale_py

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        gymnasium.register_envs(ale_py)
    return gymnasium.make(env_id, **kwargs)


def leaves(value: Any, name: str) -> list[tuple[str, numpy.ndarray]]:
    """(name, array) of every part of an observation or action; dicts and tuples become several, in order."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in leaves(value[key], f"{name}/{key}")]
    if isinstance(value, (tuple, list)):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, f"{name}/{index}")]
    if isinstance(value, str):
        raise ValueError(f"{name} is text; spaces of text have no fixed size and cannot be recorded")
    array = numpy.asarray(value)
    if array.dtype == object:
        raise ValueError(f"{name} is no array of numbers and cannot be recorded")
    return [(name, numpy.ascontiguousarray(array))]


def rebuild(space: gymnasium.Space, name: str, read: Any) -> Any:
    """The value of a space from its leaves; `read(name, dtype, shape)` gives an array."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: rebuild(space[key], f"{name}/{key}", read) for key in sorted(space.spaces)}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(rebuild(part, f"{name}/{index}", read) for index, part in enumerate(space.spaces))
    if isinstance(space, gymnasium.spaces.Discrete):
        return space.dtype.type(read(name, space.dtype, ())[()])
    return read(name, space.dtype, space.shape)


def ram_of(env: gymnasium.Env) -> bytes:
    """The 128 bytes of an Atari console's memory; empty for other environments."""
    console = getattr(env.unwrapped, "ale", None)
    return console.getRAM().tobytes() if console is not None else b""


class RandomPolicy:
    """Samples the action space with a generator of its own, whose state is the agent's memory (37 bytes)."""

    def __init__(self, space: gymnasium.Space, seed: int) -> None:
        self.space = space
        space.seed(seed)

    def act(self, observation: Any) -> Any:
        """An action; the observation does not matter."""
        return self.space.sample()

    def memory(self) -> bytes:
        """The states of all generators of the space, as text of fixed length."""
        return generator_bytes(self.space)


def generator_bytes(space: gymnasium.Space) -> bytes:
    """State of a space's PCG64 generator (37 bytes), and of those of its parts."""
    state = space.np_random.bit_generator.state
    own = (
        state["state"]["state"].to_bytes(16, "little")
        + state["state"]["inc"].to_bytes(16, "little")
        + bytes([state["has_uint32"]])
        + state["uinteger"].to_bytes(4, "little")
    )
    parts = getattr(space, "spaces", ())
    parts = parts.values() if isinstance(parts, dict) else parts
    return own + b"".join(generator_bytes(part) for part in parts)


class CallablePolicy:
    """A user's policy: a function of the observation, or an object with act(observation) and, if it likes, memory()."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.act = target.act if hasattr(target, "act") else target

    def memory(self) -> bytes:
        """The agent's own bytes; none for a plain function."""
        memory = getattr(self.target, "memory", None)
        return bytes(memory() if callable(memory) else memory or b"")


def make_policy(name: str, space: gymnasium.Space, seed: int) -> Any:
    """'random', or 'MODULE:CALLABLE'; a class is called with (action_space, seed)."""
    if name == "random":
        return RandomPolicy(space, seed)
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"policy {name!r} is neither 'random' nor MODULE:CALLABLE")
    target = getattr(importlib.import_module(module), attribute)
    return CallablePolicy(target(space, seed) if isinstance(target, type) else target)


def versions() -> str:
    """Versions of what decides the bytes, as JSON."""
    found = {"gymnasium": gymnasium.__version__, "numpy": numpy.__version__}
    try:
        import ale_py

        found["ale_py"] = ale_py.__version__
    except ImportError:
        pass
    return json.dumps(found, sort_keys=True)
