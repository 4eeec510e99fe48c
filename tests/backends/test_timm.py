"""Generated models in timm: what timm's own tests check of every model, and what they don't.

timm's own tests ran on ``cliquenet_s0``, ``resnet18`` and ``densenet121`` (docs/timm.md).
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.spec.dump import dumps
from tests.networks import clique, network, shipped
from tests.weights.files import canonical_file, sampled

timm: Any = pytest.importorskip("timm")

from cliquegraph import timm as registry  # noqa: E402  # only where there is timm

SMALL = "blocks=[{layers: 3, filters: 4}, {layers: 3, filters: 4}, {layers: 2, filters: 4}]"


def register(spec: NetworkSpec, **how: Any) -> str:
    return registry.register(spec, name="small_clique", **how)


@pytest.fixture(params=["several", "last", "plain", "max"])
def spec(request: pytest.FixtureRequest) -> NetworkSpec:
    """Readouts of several blocks, and of the last with and without a module of its own."""
    readout = {
        "several": "readout={compression: 0.5}",
        "last": "readout={blocks: last}",
        "plain": "readout={blocks: last, norm: false}",
        "max": "readout={blocks: last, norm: false, pool: max}",
    }[request.param]
    return shipped("quickstart", SMALL, readout, "expect={}")


def images(model: Any, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, *model.default_cfg["input_size"])


def test_head_and_features_have_the_sizes_of_the_configuration(spec: NetworkSpec) -> None:
    name = register(spec)
    model = timm.create_model(name).eval()
    config, x = model.default_cfg, images(model)
    features = model.forward_features(x)
    assert tuple(features.shape) == (2, model.num_features, *config["pool_size"])
    assert (config["pool_size"] == (1, 1)) == (spec.readout.blocks == "all")
    pooled = model.forward_head(features, pre_logits=True)
    assert tuple(pooled.shape) == (2, model.head_hidden_size)
    logits = model.get_classifier()(pooled)
    assert torch.equal(logits, model(x))
    for key in ("classifier", "first_conv"):
        assert f"{config[key]}.weight" in model.state_dict()
    model.reset_classifier(0)
    assert torch.equal(model(x), pooled)
    model.reset_classifier(0, "")
    assert torch.equal(model(x), features)
    model.reset_classifier(3, spec.readout.pool)
    assert (model.num_classes, tuple(model(x).shape)) == (3, (2, 3))
    bare = timm.create_model(name, num_classes=0, global_pool="").eval()
    assert bare(x).shape == features.shape
    with pytest.raises(ValueError, match="is declared in the spec"):
        model.reset_classifier(3, "catavgmax")
    with pytest.raises(TypeError):
        timm.create_model(name, not_an_argument=1)


def test_it_computes_what_the_generated_model_does(spec: NetworkSpec) -> None:
    from cliquegraph.emit.execute import load_source

    module = load_source(cliquegraph.compile(spec, "torch"), "generated")
    plain = getattr(module, spec.python_class)().eval()
    model = timm.create_model(register(spec)).eval()
    model.load_state_dict(plain.state_dict())  # the same names
    x = images(model)
    assert torch.equal(model(x), plain(x))
    assert model.activations(x).keys() == plain.activations(x).keys()
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), plain(x))  # noqa: S301  # our own
    assert torch.equal(copy.deepcopy(model)(x), plain(x))


def test_features_alone_are_those_of_blocks(spec: NetworkSpec) -> None:
    name = register(spec)
    backbone = timm.create_model(name, features_only=True).eval()
    x = images(backbone)
    maps = backbone(x)
    assert [each.shape[1] for each in maps] == backbone.feature_info.channels()
    assert [x.shape[2] // each.shape[2] for each in maps] == backbone.feature_info.reduction()
    two = timm.create_model(name, features_only=True, out_indices=(0, 2))
    assert len(two(x)) == 2
    model = timm.create_model(name).eval()
    last, intermediates = model.forward_intermediates(x, indices=[-1])
    assert torch.equal(last, model.forward_features(x))
    assert len(intermediates) == 1


def test_pruning_keeps_features_and_what_they_need(spec: NetworkSpec) -> None:
    """As timm's ``test_prune_intermediate_layers_contract``, and what follows the pruning."""
    model = timm.create_model(register(spec)).eval()
    x = images(model)
    taps, expected = model.forward_intermediates(x, intermediates_only=True), model(x)
    versions = model.activations(x)
    whole = copy.deepcopy(model)
    assert whole.prune_intermediate_layers([2], prune_norm=True, prune_head=False) == [2]
    assert torch.equal(whole(x), expected)
    for index, tap in enumerate(taps):
        pruned = copy.deepcopy(model)
        assert pruned.prune_intermediate_layers([index - 3], prune_norm=True) == [index]
        assert torch.equal(pruned.forward_features(x), tap)
        assert torch.equal(pickle.loads(pickle.dumps(pruned))(x), tap)  # noqa: S301  # our own
        kept = pruned.forward_intermediates(x, intermediates_only=True)
        assert all(torch.equal(*both) for both in zip(kept, taps[: index + 1], strict=True))
        found = pruned.activations(x)
        assert all(torch.equal(maps, versions[name]) for name, maps in found.items())
        assert {name.split(".")[0] for name in found} == {f"block{n}" for n in range(1, index + 2)}
        state = model.state_dict()
        assert all(torch.equal(each, state[key]) for key, each in pruned.state_dict().items())
        copy.deepcopy(pruned).compile_steps(backend="eager")
        pruned.train().set_grad_checkpointing()
        pruned.forward_features(x).sum().backward()
        assert all(parameter.grad is not None for parameter in pruned.parameters())
        pruned.reset_classifier(3, spec.readout.pool)
        assert tuple(pruned(x).shape) == (2, 3)
        assert pruned.prune_intermediate_layers([0]) == [0]
        assert tuple(pruned.eval()(x).shape) == tuple(taps[0].shape)
    assert torch.equal(model(x), expected)


def test_pruned_features_train_all_parameters(spec: NetworkSpec) -> None:
    backbone = timm.create_model(register(spec), features_only=True, out_indices=(0, -2))
    maps = backbone(images(backbone))
    assert backbone.feature_info.channels() == [each.shape[1] for each in maps]
    assert not [name for name in backbone.state_dict() if "block3" in name or "readout" in name]
    sum(each.sum() for each in maps).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_pruning_keeps_drop_probabilities() -> None:
    """The blocks stay: those of a network declared with fewer would drop more of their units."""
    model = timm.create_model(registry.register(shipped("resnet110_stochastic_depth"))).train()
    x = images(model)
    torch.manual_seed(0)
    features = copy.deepcopy(model).forward_intermediates(x, intermediates_only=True)
    torch.manual_seed(0)
    model.prune_intermediate_layers([1])
    (pruned,) = model.forward_intermediates(x, [1], intermediates_only=True)
    assert torch.equal(pruned, features[1])


def test_checkpointing_changes_neither_gradients_nor_statistics(spec: NetworkSpec) -> None:
    model = timm.create_model(register(spec)).double()
    x, results = images(model, 4).double(), []
    for enable in (False, True):
        each = copy.deepcopy(model)
        each.set_grad_checkpointing(enable)
        each(x).square().sum().backward()
        results.append((each.state_dict(), [p.grad for p in each.parameters()]))
    (plain, gradients), (recomputed, others) = results
    assert all(torch.equal(plain[key], recomputed[key]) for key in plain)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other)
    each.set_grad_checkpointing(False)
    assert torch.equal(each.eval()(x), each(x))


def test_device_and_type_are_kept(spec: NetworkSpec) -> None:
    model = timm.create_model(register(spec), device="meta", dtype=torch.float64)
    model.eval().reset_classifier(0)
    model.reset_classifier(2)
    tensors = [*model.parameters(), *model.buffers()]
    assert all(tensor.is_meta for tensor in tensors)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float64}
    assert not any(module.training for module in model.modules())
    assert tuple(model(images(model).double().to("meta")).shape) == (2, 2)


def test_parameters_are_grouped_by_depth(spec: NetworkSpec) -> None:
    from timm.optim import param_groups_layer_decay

    model = timm.create_model(register(spec))
    for coarse in (False, True):
        groups = timm.models.group_parameters(model, model.group_matcher(coarse=coarse))
        names = {name for group in groups.values() for name in group}
        assert names == dict(model.named_parameters()).keys()
        assert len(groups) == 5  # stem, three blocks with their transitions, head
    scales = {group["lr_scale"] for group in param_groups_layer_decay(model, layer_decay=0.5)}
    assert len(scales) == 5


def test_pretrained_weights_fit_other_heads_and_images(tmp_path: Path) -> None:
    spec = clique()
    name = register(spec, weights=canonical_file(tmp_path / "w", spec))
    model = timm.create_model(name, pretrained=True)
    found = cliquegraph.model_weights(model, spec)
    assert all(np.array_equal(found[key], each) for key, each in sampled(spec).items())
    for classes in (0, 3):
        other = timm.create_model(name, pretrained=True, num_classes=classes, in_chans=5)
        assert torch.equal(other.block1.w1, model.block1.w1)
        assert other.stem.conv.in_channels == 5
    backbone = timm.create_model(name, pretrained=True, features_only=True)
    assert torch.equal(backbone.model.block1.w1, model.block1.w1)


def test_a_file_of_the_generated_model_is_a_checkpoint(tmp_path: Path) -> None:
    spec = clique()
    cliquegraph.write_weights(spec, sampled(spec), tmp_path / "w.safetensors", "torch")
    model = timm.create_model(register(spec), checkpoint_path=str(tmp_path / "w.safetensors"))
    found = cliquegraph.model_weights(model, spec)
    assert all(np.array_equal(found[key], each) for key, each in sampled(spec).items())


def test_names_of_timms_own_models_stay_timms(tmp_path: Path) -> None:
    spec = shipped("resnet18")
    assert registry.register(spec) == registry.register(spec) == "cliquegraph_resnet18"
    assert "timm.models" in timm.model_entrypoint("resnet18").__module__
    with pytest.raises(UsageError, match="timm has a model 'resnet18' of its own"):
        registry.register(spec, name="resnet18")
    file = tmp_path / "small.yaml"
    file.write_text(dumps(clique()))
    assert registry.register(file) == "small"


def test_logits_of_every_stage_are_refused() -> None:
    readout = {"blocks": "last", "stages": "all"}
    spec = network({"layers": 2, "filters": 3}, readout=readout)
    with pytest.raises(UsageError, match=r"readout\.stages=last"):
        registry.register(spec)


def test_a_model_is_saved_for_the_hub(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    from cliquegraph.emit.execute import load_source

    spec = clique()
    module = load_source(cliquegraph.compile(spec, "torch"), "generated")
    generated: Any = getattr(module, spec.python_class)

    class Hub(generated, hub.PyTorchModelHubMixin):  # type: ignore[misc]
        pass

    model = Hub(num_classes=3).eval()
    model.save_pretrained(tmp_path)
    assert '"num_classes": 3' in (tmp_path / "config.json").read_text()
    again = Hub.from_pretrained(tmp_path)
    x = torch.randn(2, spec.input.channels, spec.input.height, spec.input.width)
    assert torch.equal(again.eval()(x), model(x))
    found = cliquegraph.read_weights(
        spec.model_copy(update={"classifier": spec.classifier.model_copy(update={"classes": 3})}),
        tmp_path / "model.safetensors",
    )
    assert found["classifier.bias"].shape == (3,)


def test_names_that_timm_would_split_and_missing_weights_are_refused(tmp_path: Path) -> None:
    for name in ("a b", "a.b", "hf:a", ""):
        with pytest.raises(UsageError, match=r"can't be a name in timm: use letters"):
            registry.register(clique(), name=name)
        assert name not in timm.list_models()
    with pytest.raises(UsageError, match=r"none\.safetensors is not a file of weights"):
        registry.register(clique(), name="small_clique", weights=tmp_path / "none.safetensors")
