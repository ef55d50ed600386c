"""mmsb, the Memory-Mapped State Bus: one versioned memory that a program, its agents and its tools share.

    import mmsb

    with mmsb.open("world.mmsb") as state:
        page = state.create_page(4096, name="a")
        page.write(b"hello", at=0)

Importing this module loads no plugin and none of numpy, rich, pluggy.
"""

from mmsb._version import __version__

# Where each public name lives; it is imported when it is first used.
_HOMES = {
    "open": "mmsb.opening",
    "attach": "mmsb.attaching",
    "start": "mmsb.first",
    "export": "mmsb.exporting",
    "salvage": "mmsb.salvaging",
    "State": "mmsb.state",
    "Page": "mmsb._core.page",
    "Delta": "mmsb._core.delta",
    "Batch": "mmsb._core.batch",
    "PastState": "mmsb.past",
    "View": "mmsb.view",
    "Stepper": "mmsb.stepper",
    "cpu_report": "mmsb._core.kernels",
    "Link": "mmsb.links",
    "get_include": "mmsb.headers",
    "Semiring": "mmsb._core.semiring",
    "Semirings": "mmsb._core.semiring",
    "CsrMatrix": "mmsb._core.semiring",
    "UfuncSemiring": "mmsb.semiring",
}
_ERRORS = (
    "ArenaFullError",
    "AttachError",
    "BusyError",
    "ClientDroppedError",
    "CommandError",
    "CommandSizeError",
    "CommitInDoubtError",
    "ConflictError",
    "CorruptCheckpointError",
    "CorruptLogError",
    "DerivedPageError",
    "DeviceBufferError",
    "DuplicateNameError",
    "EdgeExistsError",
    "EdgeNotFoundError",
    "ForkedStateError",
    "FormatVersionError",
    "GraphCycleError",
    "InvalidDeltaError",
    "LinkError",
    "MMSBError",
    "MergePageError",
    "MetadataError",
    "MissingPackageError",
    "NotAStoreError",
    "OwnerGoneError",
    "PageHasEdgesError",
    "PageNotFoundError",
    "PageRangeError",
    "PageSizeError",
    "PluginError",
    "PluginSpecError",
    "PropagationError",
    "ReadOnlyError",
    "RetentionError",
    "RightsError",
    "SemiringError",
    "StalePageError",
    "StateClosedError",
    "StoreFullError",
    "StoreLockedError",
    "UnknownMomentError",
    "UnknownSemiringError",
    "UnsupportedLocationError",
)

__all__ = ["__version__", *_HOMES, *_ERRORS]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name) or ("mmsb.errors" if name in _ERRORS else None)
    if home is None:
        raise AttributeError(f"module 'mmsb' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
