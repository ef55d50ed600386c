"""The plugins that mmsb itself brings, as strings: loaded like any other, and imported by nobody else."""

BUILT_IN = {
    "builtin-commands": "mmsb.cli.hooks",
    "builtin-exporters": "mmsb.builtin.exporters",
    "builtin-loopback": "mmsb.builtin.loopback",
    "builtin-policies": "mmsb.builtin.policies",
    "builtin-semirings": "mmsb.builtin.semirings",
}
