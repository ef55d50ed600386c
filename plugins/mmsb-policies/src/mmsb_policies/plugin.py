"""The plugin: the policies batched and threshold."""

from mmsb.plugin import PropagationPolicySpec, hookimpl

MMSB_API = 1


@hookimpl
def mmsb_policies() -> list[PropagationPolicySpec]:
    """The two, each with its default numbers."""
    return [
        PropagationPolicySpec("batched", "A wave per 16 commits or 10 ms.", "mmsb_policies.batched:Batched"),
        PropagationPolicySpec(
            "threshold",
            "A wave only when a page has moved by more than 1.0 in a lane of float64.",
            "mmsb_policies.threshold:Threshold",
            lossy=True,
        ),
    ]
