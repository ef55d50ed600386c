"""The two markers of pluggy: `hookspec` for mmsb, `hookimpl` for plugins."""

import pluggy

hookspec = pluggy.HookspecMarker("mmsb")
hookimpl = pluggy.HookimplMarker("mmsb")
