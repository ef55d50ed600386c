"""Every error that myosotis raises on purpose, under one root.

Errors of loading are named after the first engine's verdicts and begin with its text, so that both can be told side by
side; what follows says where the fault is and what to do. The facts are attributes.
"""

from __future__ import annotations

from mmsb.errors import MMSBError


class MyosotisError(MMSBError):
    """Root of all errors of myosotis. Keyword arguments become attributes."""


class FirstEngineWarning(UserWarning):
    """A file was written or read in which the first engine would see something else than we do."""


# The rows of the load checks, in the order in which they are made.


class UnreadableFileError(MyosotisError, OSError):
    """The file (`path`) is missing, is a folder, cannot be read or is not UTF-8."""


class MalformedFileStructureError(MyosotisError, ValueError):
    """The file is not JSON of the expected shape; `where` names the place."""


class MissingFormatVersionError(MyosotisError, ValueError):
    """There is a header without a usable format version."""


class UnsupportedFormatVersionError(MyosotisError, ValueError):
    """The file says a newer format `version`."""


class InvalidFileMagicError(MyosotisError, ValueError):
    """The magic is missing or another one (`magic`)."""


class CorruptGenesisHashError(MyosotisError, ValueError):
    """The genesis state and its hash do not fit together."""


class CheckpointCommitMismatchError(MyosotisError, ValueError):
    """A checkpoint names a commit (`commit_id`) that is not there or has another hash."""


class InvariantError(MyosotisError, ValueError):
    """A rule that holds for every history is broken."""


class CommitSequenceError(InvariantError):
    """A commit's id (`commit_id`) does not follow the one before (`previous_id`)."""


class CommitParentError(InvariantError):
    """A commit (`commit_id`) names another parent than the one before."""


class CorruptParentHashError(MyosotisError, ValueError):
    """A commit (`commit_id`) names another parent hash than the commit before has."""


class CorruptCommitHashError(MyosotisError, ValueError):
    """A commit's content (`commit_id`) does not give the hash that it bears."""


class CorruptCheckpointHashError(MyosotisError, ValueError):
    """A checkpoint's state (`commit_id`) does not give the hash that it bears."""


class NextNodeIdError(InvariantError):
    """The next node id (`next_node_id`) is not beyond the highest one in use (`highest_id`)."""


class ForgedCheckpointError(MyosotisError, ValueError):
    """A checkpoint (`commit_id`) is sound in itself, but the commits before it give another state."""


class HiddenMutationError(InvariantError):
    """A mutation before a checkpoint breaks a rule (commit `commit_id`): the checkpoint only hides it."""


# What can be wrong with one mutation, at replay and in the API.


class NodeNotFoundError(MyosotisError, KeyError):
    """There is no node of this id (`node_id`)."""


class NodeDeletedError(MyosotisError, ValueError):
    """The node (`node_id`) is deleted and cannot be changed."""


class FieldNotFoundError(MyosotisError, KeyError):
    """The node (`node_id`) has no such field (`key`)."""


class InvalidValueError(MyosotisError, ValueError):
    """A value cannot be kept; `path` leads to the offending part."""


class DuplicateNodeError(InvariantError):
    """A node of this id (`node_id`) exists already."""


class SetBeforeCreateError(InvariantError, NodeNotFoundError):
    """A field is set on a node (`node_id`) that does not exist."""


class MissingReferenceError(InvariantError, InvalidValueError):
    """A reference leads to a node (`node_id`) that does not exist; `path` leads to the reference."""


class DeleteNonexistentNodeError(NodeNotFoundError):
    """What does not exist (`node_id`) cannot be deleted."""


class DeleteOnDeletedNodeError(NodeDeletedError):
    """The node (`node_id`) is deleted already, and its fields stay as they were."""


# The API.


class StaleValueError(MyosotisError, ValueError):
    """A list or map is changed that is not (any more) the value of the field `key` of the node `node_id`."""


class RevertError(MyosotisError, ValueError):
    """A commit (`commit`) cannot be undone: of what it changed, node `node_id` cannot be put back."""


class CommitNotFoundError(MyosotisError, KeyError):
    """No commit has this id, label or time (`commit`)."""


class NothingToCommitError(MyosotisError, ValueError):
    """Nothing was changed since the last commit."""


class UncommittedChangesError(MyosotisError, ValueError):
    """There are changes that are not committed (`count`), and what was asked for needs none."""


class InvalidCompactionTargetError(MyosotisError, ValueError):
    """History cannot be folded up to this commit (`commit`)."""


class LockedError(MyosotisError, OSError):
    """Another process writes to this file (`path`)."""


class ReadOnlyError(MyosotisError, OSError):
    """The memory was opened for reading or is a view of the past."""


class ClosedError(MyosotisError, ValueError):
    """The memory was closed."""


class CorruptJournalError(MyosotisError, OSError):
    """The journal or store (`path`) is damaged, or does not belong to the file beside it."""
