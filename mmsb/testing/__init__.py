"""What tests of mmsb and of its plugins build on: contract kits to subclass, fixtures, literal models.

`SemiringContract`, `DeviceContract`, `PolicyContract` and `PluginContract` are pytest classes; they need pytest and
hypothesis (`pip install mmsb[testing]`).
"""

_HOMES = {
    "DeviceContract": "mmsb.testing.device_contract",
    "EventLog": "mmsb.testing.eventlog",
    "PluginContract": "mmsb.testing.plugin_contract",
    "PolicyContract": "mmsb.testing.policy_contract",
    "SemiringContract": "mmsb.testing.semiring_contract",
    "Trial": "mmsb.testing.engine",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    # Imported when asked for, so that the literal models need no pytest.
    if name not in _HOMES:
        raise AttributeError(f"module 'mmsb.testing' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
