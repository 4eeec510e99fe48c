"""Hand-written models are certified or refuted rightly, without false alarm."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cliquegraph
from benchmarks.literal_spec import literal_model
from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import UsageError, WeightsError
from cliquegraph.emit.execute import load_source
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof.certify import Certified, certify
from cliquegraph.proof.models import load_model
from cliquegraph.proof.weights_map import parse_map
from cliquegraph.spec.dump import dumps
from tests.command import Run
from tests.museum.test_by_hand import RESIDUAL
from tests.museum.test_loops import AREA, BLT, FRACTAL, LAST, RCL
from tests.networks import SPECS, clique, graph_of, network, shipped
from tests.proof.by_hand import clique as cliques
from tests.proof.by_hand import loops, norms, official, units

LITERAL_MAP = """
stem.conv: stem.conv
block{b}.w{i}_{j}.weight: blocks.{b-1}.kernels.w{i}_{j}
block{b}.x{j}.s1.norm: blocks.{b-1}.first_norms.{j-1}
block{b}.x{j}.s2.norm: blocks.{b-1}.loop_norms.{j-1}
transition{b}.norm: transitions.{b-1}.norm
transition{b}.conv: transitions.{b-1}.conv
transition{b}.attention.fc{n}: transitions.{b-1}.fc{n}
readout{b}.compress.norm: readouts.{b-1}.compress_norm
readout{b}.compress.conv: readouts.{b-1}.compress_conv
readout{b}.norm: readouts.{b-1}.norm
classifier: classifier
"""


def certified(spec: NetworkSpec, model: nn.Module, weights_map: str) -> Certified:
    return certify(spec, model, parse_map(weights_map, "map.yaml", graph_of(spec)))


class OwnNorms(cliques.CliqueNet):
    def __init__(self) -> None:
        super().__init__()
        self.clique.bn2[1] = norms.OwnNorm(6)


class Hoisted(loops.RecurrentLayer):
    """The convolution of the input is computed once for all steps."""

    def forward(self, u: Tensor) -> Tensor:
        fed = self.feed(u)
        x = self.activate(fed, 0)
        for step in range(1, self.steps + 1):
            x = self.activate(self.recur(x) + fed, step)
        return x


class HoistedRCNN(loops.RCNN):
    layer = Hoisted


class Summed(cliques.Clique):
    """Each pair is convolved by itself, into maps that are allocated before."""

    def update(self, maps: dict[int, Tensor], sources: list[int], j: int, bn: nn.Module) -> Tensor:
        x, start, total = F.relu(bn(torch.cat([maps[i] for i in sources], 1))), 0, None
        for i in sources:
            w = self.kernel(i, j)
            part = F.conv2d(x[:, start : start + w.shape[1]], w, padding=1)
            total, start = part if total is None else total + part, start + w.shape[1]
        assert total is not None
        return total


class SummedNet(cliques.CliqueNet):
    block = Summed


class Dropping(cliques.Clique):
    def update(self, maps: dict[int, Tensor], sources: list[int], j: int, bn: nn.Module) -> Tensor:
        return F.dropout(super().update(maps, sources, j, bn), 0.25, self.training)


class DroppingNet(cliques.CliqueNet):
    block = Dropping


RIGHT = {
    "clique": (clique(), cliques.CliqueNet, cliques.clique_map()),
    "clique, own norm": (clique(), OwnNorms, cliques.clique_map()),
    "clique, sums": (clique(), SummedNet, cliques.clique_map()),
    "clique, dropout": (clique(dropout=0.25), DroppingNet, cliques.clique_map()),
    "recurrent": (RCL, loops.RCNN, loops.RCNN_MAP),
    "recurrent, hoisted": (RCL, HoistedRCNN, loops.RCNN_MAP),
    "feedback": (BLT, loops.BLT, loops.BLT_MAP),
    "area": (network(AREA, **LAST), loops.AreaNet, loops.AREA_MAP),
    "residual": (RESIDUAL, units.ResNet, units.RESNET_MAP),
    "fractal": (FRACTAL, units.FractalNet, units.FRACTAL_MAP),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_models_are_certified(name: str) -> None:
    spec, model, weights_map = RIGHT[name]
    found = certified(spec, model(), weights_map)
    assert found.ok, found.messages
    assert found.proof.bound < 2**-60


def test_the_literal_model_is_certified() -> None:
    spec = shipped("quickstart")
    found = certified(spec, literal_model(spec), LITERAL_MAP)
    assert found.ok, found.messages


BOTTLENECK = {"kind": "clique", "bottleneck": True}
OFFICIAL = network(
    {**BOTTLENECK, "layers": 3, "filters": 2},
    {**BOTTLENECK, "layers": 2, "filters": 4},
    input={"channels": 3, "height": 64, "width": 64},
    stem={
        "filters": 4,
        "kernel": 7,
        "stride": 2,
        "norm": True,
        "pool": {"kind": "max", "kernel": 3, "stride": 2},
    },
    transition={"attention": True},
    readout={"compression": 0.5},
)


def test_a_model_with_the_authors_names_is_certified() -> None:
    found = certify(OFFICIAL, official.CliqueNet(), "official")
    assert found.ok, found
    wrong = certify(OFFICIAL, official.NotUpdated(), "official")
    assert not wrong.ok
    assert "block1, stage 2 layer 2: the model reads {X1@1, X3@1}" in str(wrong.proof.difference)


def test_a_generated_model_needs_no_map() -> None:
    spec = clique()
    source = Compilation(spec, 1).source(find_backend("torch"))
    model = getattr(load_source(source, "small"), spec.python_class)()
    assert certify(spec, model).ok
    with pytest.raises(WeightsError, match="--weights-map"):
        certify(spec, cliques.CliqueNet())


# ---- what differs -------------------------------------------------------------------------


class Epsilon(cliques.CliqueNet):
    def __init__(self) -> None:
        super().__init__()
        self.clique.bn2[1].eps = 1e-3


class Momentum(cliques.CliqueNet):
    def __init__(self) -> None:
        super().__init__()
        self.clique.bn2[1].momentum = 0.01


class Detached(cliques.Clique):
    def stage2(self, first: dict[int, Tensor]) -> dict[int, Tensor]:
        return super().stage2({j: x.detach() if j == 2 else x for j, x in first.items()})


class DetachedNet(cliques.CliqueNet):
    block = Detached


class OneNorm(cliques.Clique):
    def update(self, maps: dict[int, Tensor], sources: list[int], j: int, bn: nn.Module) -> Tensor:
        return super().update(maps, sources, j, self.bn2[0] if bn is self.bn2[1] else bn)


class OneNormNet(cliques.CliqueNet):
    block = OneNorm


class Channels(cliques.Clique):
    def update(self, maps: dict[int, Tensor], sources: list[int], j: int, bn: nn.Module) -> Tensor:
        return F.dropout2d(super().update(maps, sources, j, bn), 0.25, self.training)


class ChannelsNet(cliques.CliqueNet):
    block = Channels


class Frozen(cliques.CliqueNet):
    def __init__(self) -> None:
        super().__init__()
        self.conv.weight.requires_grad_(False)


WRONG = [
    (clique(), Epsilon, "stage 2 layer 2: .* the ε of its normalization is 0.001, declared is"),
    (clique(), Momentum, "stage 2 layer 2: .*running_mean moves .* by 0.01 of the way"),
    (clique(), DetachedNet, "the gradient of block1.w1_2.weight is not as declared"),
    (clique(), OneNormNet, "stage 2 layer 2: the model uses block1.x1.s2.norm, declared is"),
    (clique(dropout=0.25), ChannelsNet, r"draws element at 0.25 for \(3, 3, 1, 1\)"),
    (clique(dropout=0.25), cliques.CliqueNet, "stage 1 layer 1: draws nothing"),
    (clique(), DroppingNet, "draws element at 0.25 .*; nothing more is declared"),
    (clique(), Frozen, "conv.weight is not trained, but stem.conv.weight is"),
    (clique(order="descending"), cliques.CliqueNet, "but block1.x3.s1.norm.scale is declared 4"),
]


@pytest.mark.parametrize(("spec", "model", "message"), WRONG)
def test_wrong_models_are_refuted(spec: NetworkSpec, model: Any, message: str) -> None:
    found = certified(spec, model(), cliques.clique_map())
    assert not found.ok
    assert re.search(message, "\n".join(found.messages)), found.messages


# ---- weight maps ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "is no weight map"),
        ("a: [", "is not YAML"),
        ("stem.conv.wait: conv.weight", "line 1: the network has no tensor stem.conv.wait; did"),
        ("stem.conv.weight: 3", "line 1: stem.conv.weight is 3; expected a name"),
        ("stem.conv.weight: conv.wait", "line 1: the model has no tensor conv.wait; did you mean"),
        ("stem.conv.weight: 'conv.weight[a]'", "expected slices, numbers or None"),
        ("stem.conv.weight: conv.weight.permute(0, 1)", "permute.* does not name its axes"),
        ("block1.w{i}_{j}.weight: clique.table.{k}", "{k} is no number"),
        ("stem.conv: conv\nstem.conv.weight: conv.weight", "is placed by line 1 already"),
    ],
)
def test_what_a_map_does_not_mean(text: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        certified(clique(), cliques.CliqueNet(), text)


class Stacked(units.FractalNet):
    """The classifier is stored the other way round, two kernels in one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(1, 1)
        self.weight, self.fc_bias = nn.Parameter(torch.randn(3, 5)), nn.Parameter(torch.zeros(5))
        del self.fc
        self.two = nn.Parameter(torch.randn(2, 3, 4, 3, 3))
        self.block.convs[0], self.block.convs[1] = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x, block = self.conv(x), self.block
        one, two = (F.relu(block.bns[i](F.conv2d(x, self.two[i], padding=1))) for i in range(2))
        return block.join([one, block.unit(2, two)]).mean((2, 3)) @ self.weight + self.fc_bias


def test_parts_of_tensors_that_are_turned() -> None:
    weights_map = """
stem.conv: conv
block1.v1.weight: two[0]
block1.v2.weight[:, 0:3]: two[1, :, 0:3]
block1.v2.weight[:, 3:4]: two[1, :, 3:4]
block1.v3: block.convs.2
block1.x{j}.norm1: block.bns.{j-1}
classifier.weight: weight.permute(1, 0)
classifier.bias: fc_bias
"""
    found = certified(FRACTAL, Stacked(), weights_map)
    assert found.ok, found.messages
    lacking = weights_map.replace("block1.v2.weight[:, 3:4]: two[1, :, 3:4]", "")
    assert certified(FRACTAL, Stacked(), lacking).findings == (
        "the model has only a part of block1.v2.weight, 3×4×3×3",
        "nothing declares a part of the parameter two, 2×3×4×3×3",
    )


# ---- models -----------------------------------------------------------------------------------

MODEL = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, k=3):
        super().__init__()
        self.conv = nn.Conv2d(2, k, 3)
    def forward(self, x):
        return self.conv(x).nothing
def broken():
    raise KeyError("here")
"""


def test_errors_of_the_model_are_reported_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "their_model.py"
    file.write_text(MODEL)
    with pytest.raises(UsageError, match=r"their_model.py, line 11: KeyError: 'here'"):
        load_model(f"{file}:broken")
    with pytest.raises(UsageError, match="has no Nett; it has Net"):
        load_model(f"{file}:Nett")
    with pytest.raises(UsageError, match="--args"):
        load_model(f"{file}:Net", {"wide": 1})
    with pytest.raises(UsageError, match="there is no module no_such_thing"):
        load_model("no_such_thing:Net")
    with pytest.raises(UsageError, match="names no model"):
        load_model("model.py")
    spec = network({"kind": "fractal", "columns": 1, "filters": 3}, stem="none", **LAST)
    model = load_model(f"{file}:Net")
    placed = parse_map("block1.v1.weight: conv.weight", "map.yaml", graph_of(spec))
    found = certify(spec, model, placed)
    assert "nothing declares the parameter conv.bias, 3" in found.findings


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UsageError, match=r"a builtins\.int is no model"):
        certify(clique(), 3)


# ---- the command --------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, run: Run) -> None:
    spec, weights_map, out = (tmp_path / name for name in ("s.yaml", "map.yaml", "c.json"))
    spec.write_text(dumps(FRACTAL))
    weights_map.write_text(units.FRACTAL_MAP)
    model = f"{Path(units.__file__)}:FractalNet"
    given = ["certify", model, str(spec), "--weights-map", str(weights_map), "-o", str(out)]
    found = run(*given)
    assert found.code == 0, found
    assert f"{model} is small" in found.out
    kept = json.loads(out.read_text())
    assert kept["ok"]
    assert kept["model"]["equal"]["gradients"] > 0
    assert run(*given, "--size", "big").code == 2
    weights_map.write_text(units.FRACTAL_MAP.replace("{j-1}", "{2-(j-1)}"))
    assert run(*given, "--json").code == 1


@pytest.mark.parametrize("library", ["torchvision.models", "timm.models.resnet"])
def test_the_resnets_of_others_are_certified(library: str) -> None:
    pytest.importorskip(library.partition(".")[0], exc_type=ImportError)
    model = load_model(f"{library}:resnet18")
    spec = cliquegraph.load(SPECS / "resnet18.yaml")
    found = certify(spec, model, "torchvision")
    assert found.ok, found.messages
