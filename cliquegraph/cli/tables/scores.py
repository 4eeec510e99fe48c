"""What the commands that train and classify print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from rich.table import Table

from cliquegraph.emit.words import engineering
from cliquegraph.ir.storage import Array
from cliquegraph.studies.stages import StageMap
from cliquegraph.studies.study import Result
from cliquegraph.tables.table import Json, table
from cliquegraph.training.scores import TOP, Scores

_SHOWN = 20  # classes whose confusion still fits a terminal


def scores_json(
    scores: Scores,
    classes: Sequence[str],
    by_stage: Sequence[Scores] = (),
    macs: Mapping[int, int] = MappingProxyType({}),
) -> Json:
    """Return every score; ``confusion`` has a row for each true class.

    Args:
        scores: the scores, of the last stage.
        classes: class names.
        by_stage: the scores of each stage of a readout over time.
        macs: the MACs of each of these stages.
    """
    totals = scores.totals
    stages = [
        {"stage": stage, "macs": count, "top1": each.totals.accuracy, "loss": each.totals.mean_loss}
        for (stage, count), each in zip(macs.items(), by_stage, strict=False)
    ]
    return {
        "images": totals.images,
        "loss": totals.mean_loss,
        "top1": totals.accuracy,
        "top5": scores.top5,
        "classes": list(classes),
        "confusion": scores.confusion.tolist(),
        **({"stages": stages} if stages else {}),
    }


def scores_line(scores: Scores, title: str) -> str:
    """Return the scores in one line."""
    totals = scores.totals
    return (
        f"{title}: top-1 {totals.accuracy:.2%}, top-5 {scores.top5:.2%}, "
        f"loss {totals.mean_loss:.4f}, {totals.images:,} images"
    )


def time_table(by_stage: Sequence[Scores], macs: Mapping[int, int]) -> Table:
    """Return a row for each stage of a readout over time: its scores, and the MACs up to it."""
    numbers = ("stage", "top-1", "top-5", "loss", "MACs")
    result = table("each stage, with the MACs that it takes", *numbers, right=numbers)
    for (stage, count), scores in zip(macs.items(), by_stage, strict=True):
        totals = scores.totals
        result.add_row(
            str(stage),
            f"{totals.accuracy:.2%}",
            f"{scores.top5:.2%}",
            f"{totals.mean_loss:.4f}",
            engineering(count),
        )
    return result


def confusion_table(scores: Scores, classes: Sequence[str]) -> Table:
    """Return the confusion matrix, or for many classes the most frequent confusions."""
    if len(classes) > _SHOWN:
        return _confused(scores, classes)
    numbers = [str(label) for label in range(len(classes))]
    result = table(
        "rows: true class, columns: predicted class", "", "class", *numbers, right=numbers
    )
    for label, (name, row) in enumerate(zip(classes, scores.confusion, strict=True)):
        result.add_row(str(label), name, *(f"{count:,}" if count else "·" for count in row))
    return result


def _confused(scores: Scores, classes: Sequence[str]) -> Table:
    result = table("the most frequent confusions", "class", "predicted", "images", right=["images"])
    wrong = scores.confusion * (1 - np.eye(len(classes), dtype=np.int64))
    for flat in np.argsort(-wrong, axis=None, kind="stable")[:_SHOWN]:
        truth, taken = np.unravel_index(flat, wrong.shape)
        if wrong[truth, taken]:
            result.add_row(classes[truth], classes[taken], f"{wrong[truth, taken]:,}")
    return result


def guesses(logits: Array, classes: Sequence[str]) -> list[Json]:
    """Return the five most likely classes of an image, (classes,) logits, the most likely first."""
    powers = np.exp(logits - logits.max())
    shares = powers / powers.sum()
    order = np.argsort(-shares, kind="stable")[:TOP]
    return [{"class": classes[label], "probability": float(shares[label])} for label in order]


def guesses_table(found: Sequence[tuple[str, list[Json]]]) -> Table:
    """Return a row for each image."""
    result = table(None, "image", *(f"{rank}." for rank in range(1, TOP + 1)))
    for name, guessed in found:
        result.add_row(name, *(f"{each['class']} {each['probability']:.1%}" for each in guessed))
    return result


def stages_json(each: StageMap) -> Json:
    """Return the figures of a stage, without the map."""
    return {
        "block": each.block,
        "stage": each.stage,
        "layer": each.layer,
        "channel": each.channel,
        "mean": each.mean,
        "overall": each.overall,
        "change": each.change,
    }


def stages_table(maps: Sequence[StageMap], title: str) -> Table:
    """Return a row for each block and stage."""
    numbers = ("its mean", "mean of all", "change")
    result = table(title, "block", "stage", "strongest map", *numbers, right=numbers)
    for each in maps:
        result.add_row(
            str(each.block),
            str(each.stage),
            f"X{each.layer}, channel {each.channel}",
            f"{each.mean:.4g}",
            f"{each.overall:.4g}",
            "" if each.change is None else f"{each.change:.1%}",
        )
    return result


def study_json(result: Result) -> Json:
    """Return a variant's figures and the accuracy of each seed."""
    return {
        "variant": result.variant.name,
        "overrides": list(result.variant.overrides),
        "parameters": result.parameters,
        "macs": result.macs,
        "top1": list(result.accuracies),
        "mean": result.mean,
        "std": result.std,
    }


def study_table(found: Sequence[Result], title: str) -> Table:
    """Return a row for each variant; accuracies in per cent."""
    numbers = ("parameters", "FLOPs", "top-1, %", "error, %")
    result = table(title, "variant", *numbers, right=numbers)
    for each in found:
        result.add_row(
            each.variant.name,
            f"{each.parameters:,}",
            engineering(2 * each.macs),
            f"{100 * each.mean:.2f} ± {100 * each.std:.2f}",
            f"{100 * (1 - each.mean):.2f}",
        )
    return result
