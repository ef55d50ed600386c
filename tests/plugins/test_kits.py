"""The contract kits: good things pass them, and each way of being bad is found by one of their tests."""

import time
from string import Template

import numpy as np
import pytest

from mmsb.builtin.loopback import Loopback
from mmsb.builtin.policies import Immediate, Lazy
from mmsb.cli.scaffold import TEMPLATES
from mmsb.plugin import Policy
from mmsb.testing import DeviceContract, PluginContract, PolicyContract, SemiringContract, Trial


def finds(kit, name, *arguments):
    """A test of a kit must fail."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(kit, name)(*arguments)


# ---- plugins


@pytest.mark.parametrize("module", ["mmsb.cli.hooks", "mmsb.builtin.exporters", "mmsb.builtin.policies"])
class TestBuiltInPlugins(PluginContract):
    @pytest.fixture(autouse=True)
    def choose(self, module, monkeypatch):
        self.module = module
        monkeypatch.setattr("mmsb.plugin.manager.BUILT_IN", {})


def test_the_kit_of_plugins_finds(tmp_path, monkeypatch):
    head = "import numpy\nfrom mmsb.plugin import CommandSpec, hookimpl\nMMSB_API = 1\n"
    text = head + '@hookimpl\ndef mmsb_commands(): return [CommandSpec("x", "Text.", "nowhere:x")]\n'
    (tmp_path / "zz_heavy.py").write_text(text)
    (tmp_path / "zz_broken.py").write_text("raise OSError")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("MMSB_PLUGINS_STRICT", raising=False)
    kit = PluginContract()
    kit.module = "zz_heavy"
    finds(kit, "test_its_module_is_light")
    with pytest.raises(RuntimeError, match="cannot be imported"):
        kit.test_everything_it_offers_can_be_imported()
    kit.module = "zz_broken"
    finds(kit, "test_it_is_active_and_offers_something")


# ---- devices


class TestLoopback(DeviceContract):
    def make(self):
        return Loopback()


class Aliasing(Loopback):
    def upload(self, buffer, data, at=0):
        super().upload(buffer, data, at)
        if isinstance(data, bytearray):
            self._buffers[buffer] = data


class Dirty(Loopback):
    def allocate(self, nbytes):
        buffer = super().allocate(nbytes)
        self._buffers[buffer][-1] = 1
        return buffer


class Short(Loopback):
    def download(self, buffer, out, at=0):
        super().download(buffer, memoryview(out)[: len(out) // 2], at)


class Partial(Loopback):
    def apply_delta(self, buffer, delta):
        for (offset, _), value in zip(delta.ranges(), delta.values, strict=False):
            self._of(buffer)[offset] = value
        super().apply_delta(buffer, delta)


class Spilling(Loopback):
    def apply_delta(self, buffer, delta):
        super().apply_delta(buffer, delta)
        self._of(buffer)[0] ^= 1


class Reusing(Loopback):
    def free(self, buffer):
        super().free(buffer)
        self._last = 0


class Shared(Loopback):
    def allocate(self, nbytes):
        buffer = super().allocate(nbytes)
        self._buffers[buffer] = self._buffers[1]
        return buffer


class Unsure(Loopback):
    def can_run(self, op):
        raise KeyError(op)

    def should_run(self, op, nbytes):
        return None


@pytest.mark.parametrize(
    ("bad", "name", "arguments"),
    [
        (Aliasing, "test_it_keeps_no_hold_of_host_memory", ()),
        (Dirty, "test_new_buffers_are_zero", (64,)),
        (Short, "test_what_goes_up_comes_down", (64,)),
        (Partial, "test_a_delta_beyond_the_end_changes_nothing", ()),
        (Spilling, "test_deltas_write_their_bytes_and_no_others", (1000,)),
        (Reusing, "test_a_freed_buffer_is_gone", ()),
        (Shared, "test_buffers_are_independent", ()),
        (Unsure, "test_it_says_whether_it_should", (64,)),
    ],
)
def test_the_kit_of_devices_finds(bad, name, arguments):
    kit = DeviceContract()
    kit.make = bad
    finds(kit, name, *arguments)


def test_the_kit_of_devices_finds_a_device_that_raises_on_unknown_operations():
    kit = DeviceContract()
    kit.make = Unsure
    with pytest.raises(KeyError):
        kit.test_unknown_operations_are_answered_not_raised()


# ---- policies


class Remembering(Policy):
    """Its state is the class's."""

    count = 0

    def after_commit(self, engine):
        Remembering.count += 1
        if Remembering.count % 7 == 0:
            engine.propagate()


class OwnClock(Immediate):
    def after_commit(self, engine):
        time.monotonic()
        super().after_commit(engine)


class Losing(Policy):
    """Has a page computed by a function that does nothing."""

    def after_commit(self, engine):
        engine.functions[10] = (lambda out, *parents: None, None, None)
        engine.propagate()


class Careless(Policy):
    """Lets stale pages be read."""

    def before_read(self, engine, page_id):
        return True


class HalfClosing(Policy):
    """Computes one page of many when it is closed."""

    def close(self, engine):
        engine.compute(10)


@pytest.mark.parametrize(
    ("bad", "name", "arguments"),
    [
        (Careless, "test_a_reader_sees_what_is_up_to_date_or_an_error", (0,)),
        (HalfClosing, "test_close_leaves_all_or_nothing_pending", (0,)),
        (Remembering, "test_the_same_life_gives_the_same_events", (0,)),
        (Remembering, "test_states_do_not_share_a_policy", ()),
        (Losing, "test_propagate_gives_the_bytes_of_immediate", (0,)),
    ],
)
def test_the_kit_of_policies_finds(bad, name, arguments):
    kit = PolicyContract()
    kit.make = bad
    finds(kit, name, *arguments)


def test_the_kit_of_policies_finds_a_clock_of_its_own(monkeypatch):
    kit = PolicyContract()
    kit.make = OwnClock
    finds(kit, "test_it_asks_no_clock_but_the_engines", monkeypatch)


def test_a_lossy_policy_says_so_and_is_let_off():
    kit = PolicyContract()
    kit.make, kit.lossy = Losing, True
    with pytest.raises(pytest.skip.Exception, match="declared lossy"):
        kit.test_propagate_gives_the_bytes_of_immediate(0)


def test_the_trial_computes_its_graph():
    trial = Trial(Lazy())
    for page, value in ((1, 100), (2, 20), (3, 3)):
        trial.write(page, value)
    assert {page: trial.read(page) for page in (10, 11, 12, 13, 14)} == {10: 130, 11: 141, 12: 145, 13: 299, 14: 413}
    assert trial.pages == {1: 100, 2: 20, 3: 3, 10: 130, 11: 141, 12: 145, 13: 299, 14: 413}


# ---- semirings


def generated():
    """The semiring that `mmsb plugins new` writes: max and min of integers, two ufuncs in a class."""
    text = (TEMPLATES / "semiring/src/PACKAGE/semiring.py.in").read_text()
    namespace = {}
    exec(Template(text).substitute(name="max-min", class_name="MaxMin"), namespace)
    return namespace["MaxMin"]


class MaxMin(generated()):
    def __init__(self):
        super().__init__("int32")


def changed(**attributes):
    """A MaxMin with other attributes."""

    class Changed(MaxMin):
        def __init__(self):
            super().__init__()
            vars(self).update(attributes)

    return Changed


class TestMaxMin(SemiringContract):
    literal = (np.maximum, np.minimum)

    def make(self):
        return MaxMin()


class TestPlusTimes(SemiringContract):
    """Wraps round; ⊕ is not idempotent and does not say so."""

    make = staticmethod(changed(plus=np.add, times=np.multiply, zero=0, one=1, laws=MaxMin.laws - {"add-idempotent"}))


Plus = changed(plus=np.add, zero=0)
Minus = changed(plus=np.subtract, zero=0)
Biased = changed(zero=0)
Unlawful = changed(laws=frozenset({"associative"}))


class Spilled(MaxMin):
    """Takes the lane after the last along."""

    def add(self, dst, x):
        changed = super().add(dst, x)
        whole = getattr(dst, "obj", None)
        if isinstance(whole, bytearray):
            whole[-1] ^= 1
        return changed


class Optimist(MaxMin):
    def add(self, dst, x):
        super().add(dst, x)
        return True


class Sloppy(MaxMin):
    """Lanes that do not fit are repeated or cut instead of refused."""

    def _fitting(self, x, dst):
        return np.resize(x, len(dst))


class Moody(MaxMin):
    """Another result every time."""

    made = 0

    def __init__(self):
        super().__init__()
        Moody.made += 1
        self.offset = Moody.made

    def fold_mul(self, x):
        return (super().fold_mul(x) + self.offset) % 1000


@pytest.mark.parametrize(
    ("bad", "name", "arguments"),
    [
        (Plus, "test_law", ("add-idempotent",)),
        (Plus, "test_law", ("left-distributive",)),
        (Minus, "test_law", ("add-commutative",)),
        (Minus, "test_law", ("add-associative",)),
        (Biased, "test_law", ("add-identity",)),
        (Biased, "test_zero_masks_a_lane", ()),
        (Unlawful, "test_it_states_its_facts", ()),
        (Spilled, "test_only_its_own_bytes_at_every_length_and_alignment", (1,)),
        (Optimist, "test_it_tells_whether_a_byte_changed", ()),
        (Sloppy, "test_buffers_that_do_not_fit_are_refused_and_nothing_changes", ()),
        (Moody, "test_every_implementation_gives_the_same_bytes", ()),
        (Moody, "test_folds", ()),
    ],
)
def test_the_kit_of_semirings_finds(bad, name, arguments):
    kit = SemiringContract()
    kit.make = bad
    finds(kit, name, *arguments)


def test_the_kit_of_semirings_finds_a_false_literal():
    kit = TestMaxMin()
    kit.literal = (np.maximum, np.maximum)
    finds(kit, "test_lanes_equal_the_literal_definition")
