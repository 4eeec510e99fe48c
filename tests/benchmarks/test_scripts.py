"""The benchmarks run and write what they should; what they measure is nobody's test."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks import (
    alternatives,
    bytes_moved,
    convolutions,
    counted_kernels,
    evaluation,
    first_step,
    flax_slab,
    gpu,
    harness,
    input_pipeline,
    memory_format,
    torch_runs,
    training,
)
from cliquegraph import load
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.passes.pipeline import LEVELS

QUICK = ["--networks=quickstart", "--batch=2", "--rounds=2"]
SCRIPTS = [training, evaluation, convolutions, first_step, input_pipeline, memory_format]


def results(
    script: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> list[dict[str, Any]]:
    """What a script writes."""
    output = folder / "results.json"
    monkeypatch.setattr("sys.argv", [str(script.__file__), *arguments, f"--output={output}"])
    script.main()
    text = output.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    written: dict[str, Any] = json.loads(text)
    assert written["command"].startswith(f"python benchmarks/{Path(str(script.__file__)).name}")
    assert {"commit", "dirty", "machine", "settings"} < written.keys()
    found: list[dict[str, Any]] = written["results"]
    return found


@pytest.mark.parametrize("script", [training, evaluation, convolutions])
def test_torch(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = results(script, tmp_path, monkeypatch, *QUICK)
    variants = found["variants"]
    assert {"literal", *(f"O{level}" for level in LEVELS)} <= variants.keys()
    assert ("folded" in variants) == (script is evaluation)
    for row in variants.values():
        assert len(row["samples"]) == 2
        assert row["ratio_to"] == "literal"
    assert variants["literal"]["ratio"]["median"] == 1.0


def test_memory_formats_are_compared_at_every_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = results(memory_format, tmp_path, monkeypatch, *QUICK)
    variants = found["variants"]
    assert variants.keys() == {f"O{n} {layout}" for n in LEVELS for layout in harness.FORMATS}
    assert {row["ratio_to"] for row in variants.values()} == {"O0 nchw"}
    assert variants["O0 nchw"]["ratio"]["median"] == 1.0
    stored = {name: row["stored_bytes_per_image"] for name, row in variants.items()}
    assert stored["O2 channels_last"] < stored["O0 channels_last"]


def test_bytes_moved_are_counted_at_every_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--networks=cliquenet_s3", "--batch=64"]
    (found,) = results(bytes_moved, tmp_path, monkeypatch, *arguments)
    moved = found["bytes_moved_per_image"]
    designs = [f"O{level}{design}" for level in (1, 2) for design in ("", " A", " B")]
    assert [*moved] == ["literal", "O0", *designs]
    ratios = {name: moved[name] / moved["literal"] for name in ("O0", *designs)}
    expected = {"O0": 1.003, "O1": 0.918, "O1 A": 0.626, "O1 B": 0.445}
    expected |= {"O2": 1.124, "O2 A": 0.766, "O2 B": 0.508}
    assert ratios == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("design", counted_kernels.DESIGNS.values(), ids=[*counted_kernels.DESIGNS])
def test_counted_kernels_compute_what_the_operators_do(design: int) -> None:
    import torch

    network = load(
        "specs/densenet121.yaml", overrides=["input.height=64", "input.width=64", "expect={}"]
    )
    found = []
    for replaced in (False, True):
        model = torch_runs.generated_model(network, 1).double()
        if replaced:
            kernels = counted_kernels.CountedKernels(nullcontext)
            kernels.replace(model, design)
        torch.manual_seed(0)
        model(torch.randn(2, 3, 64, 64, dtype=torch.float64)).square().sum().backward()
        found.append([each.grad for each in model.parameters()])
    assert kernels.total
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-7)


def test_a_block_in_a_slab_is_the_same_in_jax() -> None:
    import jax
    import numpy as np

    for name in ("quickstart", "densenet121"):
        block = flax_slab.blocks_of(harness.load_network(name))[-1]
        inputs = flax_slab.inputs_of(block, batch=2)
        ways = flax_slab.variants_of(block)
        assert len(ways) == (4 if name == "densenet121" else 2)
        with jax.enable_x64(True):
            x0, weights, slope = jax.tree.map(lambda a: a.astype("float64"), inputs)
            found = [
                [*map(np.asarray, jax.tree.leaves(flax_slab.step(way, block, x0, weights, slope)))]
                for way in ways.values()
            ]
        for each in found[1:]:
            for one, other in zip(found[0], each, strict=True):
                np.testing.assert_allclose(other, one, rtol=1e-8, atol=1e-8 * abs(one).max())


def test_slabs_are_compared_in_jax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = results(flax_slab, tmp_path, monkeypatch, *QUICK)
    assert (first["block"], second["block"]) == (1, 2)
    for each in (first, second):
        assert [*each["variants"]] == ["concatenated", "slab"]
        assert each["variants"]["concatenated"]["ratio"]["median"] == 1.0


def test_an_operator_moves_what_it_reads_and_writes() -> None:
    import torch

    a, b = torch.zeros(10, 3), torch.zeros(10, 3)
    with bytes_moved.BytesMoved() as moved:
        torch.add(a, b)
        a.view(30)  # nothing
        torch.empty(7)  # nothing
        torch.mul(a, a, out=b)
        a.add_(b)  # reads both and writes one
        torch.neg(a[:1, :1].expand(10, 3))  # reads one element
    assert moved.total == ((3 + 2 + 3 + 1) * 30 + 1) * 4


GENERATED = ["--networks=quickstart", "--batches=2,3", "--rounds=2", "--candidates=O0,O2"]


def test_alternatives_are_compared_with_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = results(alternatives, tmp_path, monkeypatch, *GENERATED)
    assert [each["batch"] for each in found] == [2, 3]
    for each in found:
        variants = each["variants"]
        assert [*variants] == ["O0 channels_last", "O0 nchw", "O2 channels_last", "O2 nchw"]
        assert {row["ratio_to"] for row in variants.values()} == {"O0 channels_last"}
        assert {len(row["samples"]) for row in variants.values()} == {2}
        stored = {name: row["stored_bytes_per_image"] for name, row in variants.items()}
        assert stored["O2 channels_last"] < stored["O0 channels_last"]


@pytest.mark.parametrize("candidate", ["torchvision", "timm", "timm-checkpoint"])
def test_a_package_that_is_missing_is_named(
    candidate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UsageError, match=r"pip install --no-deps torchvision.*O0,O1,O2"):
        alternatives.build(candidate, harness.load_network("densenet121"))


def test_a_model_that_a_package_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alternatives, "torchvision_models", lambda: (None, ["resnet50"]))
    with pytest.raises(UsageError, match="torchvision has no model 'quickstart'"):
        alternatives.build("torchvision", harness.load_network("quickstart"))


def test_candidates_are_the_same_network() -> None:
    from torch import nn

    models = {"a": nn.Linear(2, 3), "b": nn.Linear(2, 3)}
    assert alternatives.same_parameters({**models}) == 9
    with pytest.raises(UsageError, match="not the same network; their parameters: a 9, b 9, c 8"):
        alternatives.same_parameters({**models, "c": nn.Linear(3, 2)})


def test_checkpointed_units_compute_the_same_and_save_less() -> None:
    import torch
    from torch import nn

    from benchmarks.bundled.torch_steps import TrainingStep

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            for index in range(1, 5):
                unit = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 4))
                self.add_module(f"layer{index}", nn.Sequential(unit))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[no-any-return, operator]

    plain, checkpointed = Layers(), Layers()
    alternatives.checkpoint_units(checkpointed)
    gradients, stored = [], []
    for model in (plain, checkpointed):
        step = TrainingStep(model, torch.ones(8, 4), torch.arange(8) % 4)
        stored.append(step.stored_bytes())
        step()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert stored[1] < stored[0] / 2
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


def test_training_counts_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = results(training, tmp_path, monkeypatch, *QUICK, "--levels=0", "--sgd")
    # The bare feature maps: layers of 12 filters, on 8×8 pixels and on 4×4, in two stages.
    maps = 4 * (2 * 4 * 12 * (64 + 16))
    for row in found["variants"].values():
        assert maps < row["stored_bytes_per_image"] < 30 * maps


def test_the_input_pipeline_is_compared_with_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("PIL")
    arguments = (*QUICK, "--images=20", "--repeats=2")
    (found,) = results(input_pipeline, tmp_path, monkeypatch, *arguments)
    variants = found["variants"]
    assert variants.keys() == {"model", "none", "pad_crop_flip", "resized_crop_flip"}
    for row in variants.values():
        assert len(row["samples"]) == 2
        pairs = zip(variants["model"]["samples"], row["samples"], strict=True)
        feeds = sorted(model / batch for model, batch in pairs)
        assert row["feeds"]["median"] == pytest.approx(sum(feeds) / 2, rel=1e-3)


@pytest.mark.parametrize("script", [training, evaluation])
def test_flax(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (*QUICK, "--backend=flax", "--levels=0")
    (found,) = results(script, tmp_path, monkeypatch, *arguments)
    assert len(found["variants"]["O0"]["samples"]) == 2


def test_convolutions_are_those_of_the_network() -> None:
    from benchmarks.torch_runs import Configuration

    network = harness.load_network("cliquenet_s3")
    sequence = convolutions.convolutions(network, Configuration(), 1)
    # One for the stem, two for each of 4 × 6 × 2 updates, 3 transitions, 4 compressions.
    assert len(sequence) == 1 + 2 * 4 * 6 * 2 + 3 + 4
    assert [each.needs_input_gradient for each in sequence] == [False] + [True] * (
        len(sequence) - 1
    )
    for each in (sequence[0], sequence[-1]):
        assert each.forward().shape == each.gradient.shape
        x, w, _ = each.backward()
        assert (x is not None) == each.needs_input_gradient
        assert w is not None and w.shape == each.w.shape


def test_a_level_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["training.py", "--levels=99"])
    with pytest.raises(UsageError, match="there is no level -O99"):
        training.main()


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("argument", ["--rounds=0", "--batch=0", "--batch=-2", "--threads=x"])
def test_numbers_begin_at_1(
    script: ModuleType,
    argument: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", [str(script.__file__), argument])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    name, _, value = argument.partition("=")
    assert f"argument {name}: '{value}' is not a positive integer" in capsys.readouterr().err


def test_a_process_that_ends_early_is_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    message = r"the process of Task\(.*\) has ended; see above"
    with (
        pytest.raises(UsageError, match=message),
        first_step.server(first_step.Task("torch", "no_network", 1, 2)),
    ):
        pass
    assert "error: there is no specs/no_network.yaml" in capfd.readouterr().err


@pytest.mark.parametrize("script", [*SCRIPTS, alternatives, gpu])
def test_help(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [str(script.__file__), "--help"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 0
    assert "python benchmarks/" in capsys.readouterr().out


# ---- the harness ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "cliquenet_s3"])
def test_networks_are_loaded_without_dropout(name: str) -> None:
    network = harness.load_network(name)
    places = [*network.blocks, network.transition, network.readout]
    assert {getattr(place, "dropout", 0.0) for place in places} == {0.0}


def test_every_round_begins_with_another_run() -> None:
    order: list[str] = []

    def seconds(name: str) -> float:
        order.append(name)
        return float(len(order))

    runs = {name: lambda name=name: seconds(name) for name in "abc"}
    samples = harness.interleave(runs, rounds=3, warm_up=0)
    assert "".join(order) == "abcbcacab"
    assert samples == {"a": [1.0, 6.0, 8.0], "b": [2.0, 4.0, 9.0], "c": [3.0, 5.0, 7.0]}


def test_ratios_are_of_the_same_round() -> None:
    summary = harness.summarise({"base": [1.0, 10.0, 2.0], "other": [2.0, 15.0, 4.0]}, "base")
    assert summary["other"]["ratio"] == {
        "median": 2.0,
        "lower_quartile": 1.75,
        "upper_quartile": 2.0,
    }
    assert summary["other"]["seconds"]["median"] == 4.0


def test_a_list_of_numbers_is_one_line(tmp_path: Path) -> None:
    result = {"b": [1.5, -2e-07, 3], "a": [{"x": None}], "empty": []}
    harness.write_json(tmp_path / "result.json", result)
    text = (tmp_path / "result.json").read_text()
    assert '"b": [1.5, -2e-07, 3],\n' in text
    assert json.loads(text) == result
