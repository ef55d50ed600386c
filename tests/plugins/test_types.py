"""Specs are checked when they are made, and are frozen."""

import dataclasses
import pickle

import pytest

import mmsb
from mmsb.plugin import CommandSpec, DeviceBackendSpec, ExporterSpec, PropagationPolicySpec, SemiringSpec
from mmsb.plugin.registry import kinds

GOOD = {
    CommandSpec: {"load": "a.b:c"},
    DeviceBackendSpec: {"factory": "a.b:c"},
    ExporterSpec: {"factory": print},
    PropagationPolicySpec: {"factory": "a.b:c", "lossy": True},
    SemiringSpec: {"factory": "a.b:c", "dtypes": ("float64", "int32")},
}


def test_every_kind_is_here():
    assert set(GOOD) == set(kinds().values())


@pytest.mark.parametrize("spec", GOOD)
@pytest.mark.parametrize("name", ["a", "0", "min-plus", "a_b", "8-bit_x-"])
def test_good_names(spec, name):
    made = spec(name=name, summary="One line.", **GOOD[spec])
    assert made == spec(name=name, summary="One line.", **GOOD[spec])
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "other"


@pytest.mark.parametrize("spec", GOOD)
@pytest.mark.parametrize("name", ["", "A", "-a", "_a", "a b", "a/b", "..", "a\n", "ä", None, 7, b"a"])
def test_bad_names(spec, name):
    with pytest.raises(mmsb.PluginSpecError) as caught:
        spec(name=name, summary="One line.", **GOOD[spec])
    assert (caught.value.spec, caught.value.field, caught.value.value) == (spec.__name__, "name", name)


@pytest.mark.parametrize("summary", ["", "  ", "two\nlines", "\x1b[31mred", None])
def test_bad_summaries(summary):
    with pytest.raises(mmsb.PluginSpecError, match="Give one line of printable text"):
        CommandSpec("x", summary, "a:b")


@pytest.mark.parametrize("target", ["", "a", "a:", ":b", "a:b.c", "a:b()", "a b:c", "1a:b", "a:b\n", None, 5])
def test_bad_targets(target):
    for spec in (CommandSpec, DeviceBackendSpec):
        with pytest.raises(mmsb.PluginSpecError, match="Give 'module:attribute', or something callable"):
            spec("x", "Text.", target)


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [
        (SemiringSpec, "dtypes", ()),
        (SemiringSpec, "dtypes", ["float64"]),
        (SemiringSpec, "dtypes", ("float64", "f8")),
        (SemiringSpec, "dtypes", "float64"),
        (PropagationPolicySpec, "lossy", "no"),
        (ExporterSpec, "signals", ()),
        (ExporterSpec, "signals", ("metrics", "logs")),
    ],
)
def test_bad_fields_of_one_kind(spec, field, value):
    with pytest.raises(mmsb.PluginSpecError) as caught:
        spec(name="x", summary="Text.", **{**GOOD[spec], field: value})
    assert (caught.value.field, caught.value.value) == (field, value)


def test_the_error_is_a_value_error_and_survives_a_process_boundary():
    with pytest.raises(ValueError) as caught:
        CommandSpec("X", "Text.", "a:b")
    assert isinstance(caught.value, mmsb.PluginError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.field) == (str(caught.value), "name")


def test_callables_need_no_import():
    assert ExporterSpec("x", "Text.", print).resolve() is print
    assert DeviceBackendSpec("x", "Text.", "os.path:join").resolve().__name__ == "join"


def test_a_command_is_a_click_command():
    with pytest.raises(mmsb.PluginError, match="os.path:join is a function and no click command"):
        CommandSpec("x", "Text.", "os.path:join").resolve()
