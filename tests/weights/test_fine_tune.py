"""Weights into models with another classifier or other image channels, and from wrapped models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import UsageError, WeightsError
from cliquegraph.emit.execute import load_source
from cliquegraph.spec.dump import dumps
from cliquegraph.weights.adapt import fit_channels
from cliquegraph.weights.tensors import model_names
from tests.networks import clique, shipped
from tests.weights.files import canonical_file, sampled

SPEC = clique()
CLASSES = SPEC.classifier.classes
HEAD = ("classifier.weight", "classifier.bias")


def model_of(
    backend: str, spec: NetworkSpec = SPEC, classes: int = CLASSES, level: int = 0, **how: Any
) -> Any:
    source = cliquegraph.compile(spec, backend, level=level, **how)
    create = getattr(load_source(source, "generated"), spec.python_class)
    return create(classes) if backend == "torch" else create(classes, rngs=nnx.Rngs(0))


def with_(**changes: int) -> NetworkSpec:
    keys = {"classes": "classifier.classes", "channels": "input.channels", "height": "input.height"}
    overrides = [f"{keys[name]}={value}" for name, value in changes.items()]
    return cliquegraph.loads(dumps(SPEC), overrides=[*overrides, "expect={}"])


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_all_but_the_classifier_is_loaded(tmp_path: Path, backend: str) -> None:
    model = model_of(backend, classes=3)
    before = cliquegraph.model_weights(model, SPEC)
    assert before["classifier.weight"].shape[0] == 3
    file = canonical_file(tmp_path / "w", SPEC)
    with pytest.raises(WeightsError, match=f"has {CLASSES} classes, but the model 3: head='skip'"):
        cliquegraph.load_weights(model, SPEC, file)
    with pytest.raises(WeightsError, match=f"have {CLASSES} classes, but the model 3: head='skip'"):
        cliquegraph.load_weights(model, SPEC, sampled(SPEC))
    cliquegraph.load_weights(model, SPEC, file, head="skip")
    after, expected = cliquegraph.model_weights(model, SPEC), sampled(SPEC)
    for name, array in after.items():
        assert np.array_equal(array, (before if name in HEAD else expected)[name]), name


def test_fine_tuned_weights_are_written_and_read(tmp_path: Path) -> None:
    model = model_of("torch", classes=3, level=1)
    tensors = cliquegraph.model_weights(model, SPEC)
    with pytest.raises(WeightsError, match=r"load the spec with classifier\.classes=3"):
        cliquegraph.write_weights(SPEC, tensors, tmp_path / "w")
    cliquegraph.write_weights(with_(classes=3), tensors, tmp_path / "w")
    other = model_of("torch", classes=3, level=2)
    cliquegraph.load_weights(other, SPEC, tmp_path / "w")
    found = cliquegraph.model_weights(other, SPEC)
    assert all(np.array_equal(found[name], array) for name, array in tensors.items())
    with pytest.raises(WeightsError, match=r"--set classifier\.classes=3 reads it"):
        save_file(model_of("torch", classes=3).state_dict(), tmp_path / "raw")
        cliquegraph.read_weights(SPEC, tmp_path / "raw")


@pytest.mark.parametrize("format", ["canonical", "torch", "flax"])
def test_another_image_takes_the_weights(tmp_path: Path, format: str) -> None:
    """A file of a network for other images, with its digest."""
    cliquegraph.write_weights(SPEC, sampled(SPEC), tmp_path / "w", format)
    had = SPEC.input.channels
    other = with_(channels=had + 2, height=SPEC.input.height * 2)
    model = model_of("torch", other)
    with pytest.raises(WeightsError, match="channels='adapt' fits it"):
        cliquegraph.load_weights(model, other, tmp_path / "w", head="skip")
    cliquegraph.load_weights(model, other, tmp_path / "w", head="skip", channels="adapt")
    kernel = cliquegraph.model_weights(model, other)["stem.conv.weight"]
    assert kernel.shape[1] == had + 2
    assert np.array_equal(kernel, fit_channels(sampled(SPEC)["stem.conv.weight"], had + 2))


def test_another_network_is_refused(tmp_path: Path) -> None:
    file = canonical_file(tmp_path / "w", clique(4))
    with pytest.raises(WeightsError, match="is for another network"):
        cliquegraph.load_weights(model_of("torch"), SPEC, file, head="skip")


def test_the_nearest_level_is_named() -> None:
    model = model_of("torch", level=2)
    del model.block1.w1
    with pytest.raises(WeightsError, match=r"the model does not fit small \(torch -O[12]\)"):
        cliquegraph.model_weights(model, SPEC)


def test_a_folded_model_has_no_head_to_skip() -> None:
    model = model_of("torch", inference=True)
    with pytest.raises(WeightsError, match="compile without --inference"):
        cliquegraph.load_weights(model, SPEC, sampled(SPEC), head="skip")


def test_kernels_are_fitted_as_timm_does() -> None:
    kernel = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 2, 2)
    assert np.array_equal(fit_channels(kernel, 1), kernel.sum(1, keepdims=True))
    four = fit_channels(kernel, 4)
    assert four == pytest.approx(np.concatenate([kernel, kernel[:, :1]], 1) * 0.75)
    assert fit_channels(kernel, 3) is kernel


class Lightning(nn.Module):
    """A module as users write it: the model, and a loss that has a tensor."""

    def __init__(self, model: nn.Module, name: str = "model") -> None:
        super().__init__()
        setattr(self, name, model)


def wrapped(model: nn.Module) -> dict[str, dict[str, Any]]:
    compiled = torch.compile(model)
    part = model_of("torch")
    part.block1 = torch.compile(part.block1)
    part.load_state_dict(dict(zip(part.state_dict(), model.state_dict().values(), strict=True)))
    assert any("block1._orig_mod." in name for name in part.state_dict())
    lightning = {"state_dict": Lightning(model).state_dict(), "pytorch-lightning_version": "2.6"}
    return {
        "compiled": compiled.state_dict(),
        "block": part.state_dict(),
        "averaged": AveragedModel(model).state_dict(),
        "averaged, compiled": AveragedModel(compiled).state_dict(),
        "parallel": nn.DataParallel(model).state_dict(),
        "lightning": {**lightning, "epoch": 3, "hyper_parameters": {"rate": 0.1}},
        "lightning, compiled": Lightning(compiled, "network").state_dict(),
        "any attribute": Lightning(model, "classifier_of_birds").state_dict(),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile's own imports
def test_files_of_wrapped_models_are_read(tmp_path: Path) -> None:
    model = model_of("torch")
    cliquegraph.load_weights(model, SPEC, sampled(SPEC))
    for name, state in wrapped(model).items():
        torch.save(state, tmp_path / "w.pt")
        found = cliquegraph.read_weights(SPEC, tmp_path / "w.pt")
        assert all(np.array_equal(found[n], a) for n, a in sampled(SPEC).items()), name


def test_tensors_beside_the_model_are_named(tmp_path: Path) -> None:
    state = {f"model.{name}": each for name, each in model_of("torch").state_dict().items()}
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(2)}}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"1 unexpected: loss\.weight"):
        cliquegraph.read_weights(SPEC, tmp_path / "w.pt")


@pytest.mark.parametrize("averaged", ["ema.", "ema.module."])
def test_a_file_with_two_models_asks_which(tmp_path: Path, averaged: str) -> None:
    """Even where the model has another classifier."""
    state = model_of("torch").state_dict()
    both = {
        f"{prefix}{name}": each for prefix in ("model.", averaged) for name, each in state.items()
    }
    both["ema.n_averaged"] = torch.tensor(3)
    torch.save({"state_dict": both}, tmp_path / "w.ckpt")
    message = r"holds several models of .*, under model\. and ema\.: store one"
    with pytest.raises(WeightsError, match=message):
        cliquegraph.read_weights(SPEC, tmp_path / "w.ckpt")
    with pytest.raises(WeightsError, match=message):
        cliquegraph.load_weights(
            model_of("torch", classes=4), SPEC, tmp_path / "w.ckpt", head="skip"
        )


def test_a_model_for_other_images_names_the_network_to_pass() -> None:
    gray = with_(channels=1)
    with pytest.raises(WeightsError, match=r"images of 1 channels, but .*\['input\.channels=1'"):
        cliquegraph.load_weights(model_of("torch", gray), SPEC, sampled(SPEC), channels="adapt")


@pytest.mark.parametrize("wrong", [3, None, "model"])
def test_what_is_no_weights_names_the_way_out(wrong: object) -> None:
    model: Any = model_of("torch")
    given: Any = model if wrong == "model" else wrong
    with pytest.raises(UsageError, match=r"found .*") as caught:
        cliquegraph.load_weights(model, SPEC, given)
    assert "cliquegraph.model_weights(model, network)" in str(caught.value)
    with pytest.raises(WeightsError, match=r"a state_dict is loaded by model\.load_state_dict"):
        cliquegraph.load_weights(model, SPEC, model.state_dict())


def test_names_that_would_collide_stay() -> None:
    names = ["model.a.w", "a.w"]
    assert model_names(names) == {name: name for name in names}


def test_an_averaged_model_is_read_in_memory() -> None:
    model = model_of("torch")
    cliquegraph.load_weights(AveragedModel(model), SPEC, sampled(SPEC))
    averaged = AveragedModel(model)
    cliquegraph.load_weights(averaged, SPEC, sampled(SPEC))
    assert "classifier.bias" in cliquegraph.model_weights(averaged, SPEC)


@pytest.mark.parametrize("format", ["torchvision", "torch"])
def test_a_published_checkpoint_is_fine_tuned(tmp_path: Path, format: str) -> None:
    """Another number of classes, gray images; the file names no network."""
    widths = [f"blocks.{block}.filters={4 * 2**block}" for block in range(4)]
    changes = [*widths, "stem.filters=4", "expect={}", "input.height=64", "input.width=64"]
    published = shipped("resnet18", *changes)
    cliquegraph.write_weights(published, sampled(published), tmp_path / "w", format)
    save_file(load_file(tmp_path / "w"), tmp_path / "plain")  # without metadata
    spec = shipped("resnet18", *changes, "classifier.classes=7", "input.channels=1")
    model = model_of("torch", spec, 7)
    cliquegraph.load_weights(model, spec, tmp_path / "plain", head="skip", channels="adapt")
    found, had = cliquegraph.model_weights(model, spec), sampled(published)
    assert np.array_equal(found["block4.v2_2.weight"], had["block4.v2_2.weight"])
    assert np.array_equal(found["stem.conv.weight"], fit_channels(had["stem.conv.weight"], 1))
