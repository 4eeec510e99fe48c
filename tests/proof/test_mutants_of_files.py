"""One change each of a generated file is refuted, in both backends; ``make proof-mutants`` has all.

The network is small, and has layers whose stages read equally many channels.
"""

from __future__ import annotations

from functools import cache

import pytest

from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.plugins.backends import find_backend
from tests.mutants.edits import edits
from tests.mutants.proofs import ERROR, NARROW_S3, REFUTED, SAME, Judge
from tests.networks import clique, network, shipped

LAYERS = {"layers": 3, "filters": 2, "stages": 3}
SPEC = network(LAYERS, {**LAYERS, "stages": 2})

Changes = dict[str, tuple[int, str, str]]

# What is judged of a proof, and the level at which it is changed.
TORCH: Changes = {
    "a swapped slice": (0, "w=self.w1[:, k0:]", "w=self.w1[:, : 2 * k]"),
    "another layer's slice": (0, "w=self.w1[:, k0:]", "w=self.w2[:, k0:]"),
    "a statistic of the wrong stage": (0, "x1_3 = self.update1_3(", "x1_3 = self.update1_2("),
    "an old version": (0, "update2_3([x1_3,", "update2_3([x1_2,"),
    "two reads in another order": (0, "update2_3([x1_3, x3_2]", "update2_3([x3_2, x1_3]"),
    "a gradient that is stopped": (0, "update2_3([x1_3,", "update2_3([x1_3.detach(),"),
    "a weight's gradient that is stopped": (0, "F.conv2d(x, w,", "F.conv2d(x, w.detach(),"),
    "epsilon": (0, "nn.BatchNorm2d(in_channels)", "nn.BatchNorm2d(in_channels, eps=1.00001e-5)"),
    "momentum": (0, "nn.BatchNorm2d(in_channels)", "nn.BatchNorm2d(in_channels, momentum=0.11)"),
    "a feature twice": (0, "[x1_3, x2_3, x3_3]", "[x1_3, x2_3, x2_3]"),
    "a dropped feature": (0, "torch.cat([x, *layers1], 1)", "torch.cat([0 * x, *layers1], 1)"),
    "a feature that is not returned": (1, "return maps1, maps2", "return (maps1,)"),
    "a gradient of the moments": (
        1,
        "slope, moments[0], value=-1",
        "slope, moments[0], value=-0.5",
    ),
    "a gradient of the scale": (2, "grad_scale / 2", "grad_scale / 3"),
}
FLAX: Changes = {
    "a swapped slice": (0, "w=self.w1[:, :, k0:]", "w=self.w1[:, :, : 2 * k]"),
    "another layer's slice": (0, "w=self.w1[:, :, k0:]", "w=self.w2[:, :, k0:]"),
    "a statistic of the wrong stage": (0, "x1_3 = self.update1_3(", "x1_3 = self.update1_2("),
    "an old version": (0, "update2_3([x1_3,", "update2_3([x1_2,"),
    "a gradient that is stopped": (0, "update2_3([x1_3,", "update2_3([lax.stop_gradient(x1_3),"),
    "epsilon": (0, "1e-5, 0.1, False", "1.00001e-5, 0.1, False"),
    "momentum": (0, "1e-5, 0.1, False", "1e-5, 0.11, False"),
    "a biased variance": (0, "(count / (count - 1))", "(count / (count - 1 + 1))"),
    "a feature twice": (0, "[x1_3, x2_3, x3_3]", "[x1_3, x2_3, x2_3]"),
    "a dropped feature": (0, "concatenate([x, *layers1]", "concatenate([0 * x, *layers1]"),
    "a feature that is not returned": (2, "return maps1, maps2", "return (maps1,)"),
}


@cache
def judge() -> Judge:
    return Judge(SPEC)


@pytest.mark.parametrize(
    ("backend", "name"),
    [*(("torch", name) for name in TORCH), *(("flax", name) for name in FLAX)],
)
def test_one_change_is_refuted(backend: str, name: str) -> None:
    level, old, new = (TORCH if backend == "torch" else FLAX)[name]
    compilation, found = Compilation(SPEC, level), find_backend(backend)
    source = compilation.source(found)
    assert old in source, source
    how, said = judge().judge(compilation, found, source.replace(old, new, 1))
    assert how == REFUTED, (how, said)


def test_what_is_changed_nowhere_is_told_apart() -> None:
    compilation, found = Compilation(SPEC, 0), find_backend("flax")
    source = compilation.source(found)
    assert judge().judge(compilation, found, f"{source}# the end\n") == (SAME, "")
    broken = source.replace("x1_1 = self", "x1_9 = self", 1)
    assert judge().judge(compilation, found, broken) == (ERROR, "NameError")


def test_the_narrow_network_has_the_updates_of_s3() -> None:
    def updates(spec: NetworkSpec) -> str:
        source = Compilation(spec, 0).source(find_backend("torch"))
        update, block = source.split("class Update")[1].split("class CliqueBlock")
        network = block.index("\n\n\nclass ")
        return update.split("class Transition")[0] + block[:network]

    assert updates(NARROW_S3) == updates(shipped("cliquenet_s3"))


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_every_part_of_an_update_is_changed(backend: str) -> None:
    source = Compilation(clique(layers=3, filters=2, stages=2), 0).source(find_backend(backend))
    slice_ = "k0:" if backend == "torch" else ":, :, k0:"
    made = {f"{each.kind}: {each.before}  →  {each.after}" for each in edits(source, backend)}
    assert {
        "another version: x2_1  →  x2_2",
        "another member: self.update2_2  →  self.update2_1",
        "another member: self.w2  →  self.w3",
        "element twice: [x1_2, x2_2, x3_2]  →  [x2_2, x2_2, x3_2]",
        "gradient stopped: x0  →  _stopped(x0)",
    } <= made
    assert any(each.startswith("slice: ") and slice_[-3:] in each for each in made)
    assert any(each.startswith("line left out: x2_2 = ") for each in made)
