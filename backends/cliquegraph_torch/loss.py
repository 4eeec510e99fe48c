"""The loss of generated models; of readouts over time, the weighted mean of the stages' losses."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import cross_entropy


def mean_cross_entropy(
    logits: Tensor, labels: Tensor, shares: Sequence[float] | None = None
) -> Tensor:
    """Return the mean cross entropy of a batch.

    Args:
        logits: (batch, classes), or (stages, batch, classes).
        labels: (batch,).
        shares: the share of each stage; default: equal ones.
    """
    if logits.dim() == 2:
        return cross_entropy(logits, labels)
    shares = shares or [1 / len(logits)] * len(logits)
    loss = logits.new_zeros(())
    for share, each in zip(shares, logits, strict=True):
        loss = loss + share * cross_entropy(each, labels)
    return loss


def last_stage(logits: Tensor) -> Tensor:
    """Return the logits of the last stage, (batch, classes)."""
    return logits if logits.dim() == 2 else logits[-1]
