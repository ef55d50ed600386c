"""The plugins that mmsb itself brings, as strings: they are loaded like any other, and the core imports none of them."""

BUILT_IN = {
    "builtin-commands": "mmsb.cli.hooks",
    "builtin-exporters": "mmsb.builtin.exporters",
    "builtin-loopback": "mmsb.builtin.loopback",
    "builtin-policies": "mmsb.builtin.policies",
}
