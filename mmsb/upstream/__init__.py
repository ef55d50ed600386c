"""The first MMSB's log (`MMSBLOG1`, versions 1 and 2) and checkpoint (`MMSBSNAP`): reading them, importing them.

These files have no checksum and trust their own lengths. So the readers trust nothing: lengths are compared with the
file before anything is read, and damage that the formats cannot detect is inferred from what a sound file always has.
A `Report` collects what was found. docs/guides/import.md tells the layouts and what is inferred from what.
"""

from mmsb.upstream.checkpoint import CheckpointPage, read_checkpoint, survey_checkpoint
from mmsb.upstream.files import Finding, Report, sniff
from mmsb.upstream.importer import import_checkpoint, import_log
from mmsb.upstream.log import LogFrame, read_log, survey_log

__all__ = [
    "CheckpointPage",
    "Finding",
    "LogFrame",
    "Report",
    "import_checkpoint",
    "import_log",
    "read_checkpoint",
    "read_log",
    "sniff",
    "survey_checkpoint",
    "survey_log",
]
