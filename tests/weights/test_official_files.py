"""The authors' checkpoints, in every way that they come, through to running models."""

from __future__ import annotations

import pickle
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.torch import load_file

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import UsageError, WeightsError
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.weights import (
    check_official,
    convert_weights,
    infer_spec,
    inferred_text,
    read_weights,
)
from tests.networks import clique
from tests.official import official_arrays, official_keys, official_spec, taken
from tests.weights.files import contents, official_checkpoint, official_state

Z = dict[str, Any]


@cache
def arrays() -> Z:
    return official_arrays()


@cache
def spec() -> NetworkSpec:
    return official_spec()


def close(found: Any, expected: Any) -> bool:
    expected = np.asarray(expected)
    return bool(np.abs(np.asarray(found) - expected).max() <= 1e-9 * np.abs(expected).max())


# ---- whatever way it was saved -----------------------------------------------------------

SAVED = {
    "published": lambda path: official_checkpoint(path),
    "legacy": lambda path: official_checkpoint(path, _use_new_zipfile_serialization=False),
    "bare": lambda path: torch.save(official_state(), path),
    "bare with prefix": lambda path: torch.save(
        {f"module.{name}": tensor for name, tensor in official_state().items()}, path
    ),
    "without counters": lambda path: torch.save(
        {n: t for n, t in official_state().items() if not n.endswith("num_batches_tracked")}, path
    ),
    "of an old PyTorch": lambda path: torch.save(
        official_state(), path, _use_new_zipfile_serialization=False, pickle_protocol=2
    ),
}


@pytest.mark.parametrize("saved", list(SAVED))
@pytest.mark.parametrize("named", ["official", None])
def test_each_tensor_is_theirs_to_the_bit(tmp_path: Path, saved: str, named: str | None) -> None:
    file = tmp_path / "model.pth.tar"
    SAVED[saved](file)
    convert_weights(spec(), file, tmp_path / "c", to="canonical", format=named)
    found = read_weights(spec(), tmp_path / "c")
    lowered = cliquegraph.lower(cliquegraph.unroll(spec()))
    expected = taken(arrays(), "state", official_keys(spec(), lowered))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], array) for name, array in expected.items())


@pytest.mark.parametrize("level", list(LEVELS))
def test_it_runs_in_pytorch_as_theirs_did(tmp_path: Path, level: int) -> None:
    from cliquegraph.emit.execute import load_source

    file = official_checkpoint(tmp_path / "model.pth.tar")
    convert_weights(spec(), file, tmp_path / "t.safetensors", to="torch", level=level)
    source = cliquegraph.compile(spec(), "torch", level=level)
    model = getattr(load_source(source, "official"), spec().python_class)().double()
    state = load_file(tmp_path / "t.safetensors")
    assert state.keys() == model.state_dict().keys()
    model.load_state_dict(state, strict=True)
    x, y = torch.from_numpy(arrays()["input"]).double(), torch.from_numpy(arrays()["labels"])
    with torch.no_grad():
        assert close(model.eval()(x), arrays()["logits_eval"])
    optimiser = torch.optim.SGD(
        model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    model.train()
    losses = []
    for step in range(3):
        optimiser.zero_grad()
        logits = model(x)
        if step == 0:
            assert close(logits.detach(), arrays()["logits_train"])
        loss = torch.nn.functional.cross_entropy(logits, y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == pytest.approx(arrays()["losses_3_sgd_steps"], rel=1e-9)


@pytest.mark.parametrize("level", list(LEVELS))
def test_it_runs_in_flax_as_theirs_did(tmp_path: Path, level: int) -> None:
    from cliquegraph.emit.execute import load_source

    file = official_checkpoint(tmp_path / "model.pth.tar")
    convert_weights(spec(), file, tmp_path / "f.safetensors", to="flax", level=level)
    source = cliquegraph.compile(spec(), "flax", level=level)
    with jax.enable_x64(True):
        create = getattr(load_source(source, "official"), spec().python_class)
        model = create(rngs=nnx.Rngs(0), dtype=jnp.float64, param_dtype=jnp.float64)
        cliquegraph.load_weights(model, spec(), tmp_path / "f.safetensors")
        model.eval()
        images = jnp.asarray(np.transpose(arrays()["input"], (0, 2, 3, 1)))
        assert close(nnx.jit(lambda m, x: m(x))(model, images), arrays()["logits_eval"])


# ---- what may not come in ----------------------------------------------------------------


class Code:
    """Runs what it is told when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_compressed_file_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "small.pth"
    torch.save({"a": torch.zeros(100_000)}, path)
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert packed.stat().st_size < 10_000
    with pytest.raises(WeightsError, match=r"packed\.pth is compressed, which torch\.save does"):
        infer_spec(packed)


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle"])
def test_no_code_is_run(tmp_path: Path, how: str) -> None:
    proof = tmp_path / "was_here"
    state = {**official_state(), "bad": Code(proof)}
    if how == "plain pickle":
        (tmp_path / "bad.pth").write_bytes(pickle.dumps(Code(proof)))
    else:
        torch.save(state, tmp_path / "bad.pth", _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(WeightsError, match=r"bad\.pth (holds more than tensors|is damaged)"):
        convert_weights(spec(), tmp_path / "bad.pth", tmp_path / "out", to="canonical")
    assert not proof.exists()
    assert not (tmp_path / "out").exists()


def test_a_refusal_does_not_advise_to_run_the_file(tmp_path: Path) -> None:
    torch.save({"a": Code(tmp_path)}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError) as caught:
        infer_spec(tmp_path / "bad.pth")
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.97, 0.9999])
def test_a_truncated_checkpoint_is_one_clear_error(
    tmp_path: Path, legacy: bool, kept: float
) -> None:
    whole = official_checkpoint(tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    data = whole.read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(WeightsError, match=r"cut\.pth (is|holds|does not fit|fits)"):
        convert_weights(spec(), tmp_path / "cut.pth", tmp_path / "out", to="canonical")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([1, 2], "but a list"),
        ([], "but a list"),
        ({}, "but nothing"),
        (None, "but nothing"),
        (torch.zeros(3), "but a Tensor"),
        (torch.zeros(1), "but a Tensor"),
        ({"epoch": 3}, "'epoch' is a int"),
        ({"state_dict": 3}, "'state_dict' is a int"),
        ({1: 2}, "1 is a int"),
    ],
    ids=repr,
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: Any, what: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=f"holds no state dict.*{what}"):
        infer_spec(tmp_path / "x.pth")


# ---- strict ------------------------------------------------------------------------------


def test_what_is_left_over_missing_or_of_another_shape_is_listed(tmp_path: Path) -> None:
    state = official_state()
    del state["list_block.0.conv_param.2.weight"]
    state["list_block.0.conv_param.0.weight"] = torch.zeros(8, 8, 1, 1)
    state["fc.bias"] = torch.zeros(3)
    file = official_checkpoint(tmp_path / "model.pth.tar", state)
    with pytest.raises(WeightsError) as caught:
        convert_weights(spec(), file, tmp_path / "c", to="canonical", format="official")
    said = str(caught.value)
    assert "1 missing: list_block.0.conv_param.2.weight (block1.w0_2.weight)" in said
    assert "1 unexpected: list_block.0.conv_param.0.weight" in said
    assert "fc.bias (classifier.bias) is (3,), must be (1000,)" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"update": "simultaneous"}, 'blocks.0.update: "alternate" in the checkpoint'),
        ({"order": (2, 3, 1)}, "blocks.0.order"),
        ({"feature": 1}, "blocks.0.feature"),
    ],
)
def test_a_spec_of_the_same_tensors_and_another_function_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    first, *others = spec().blocks
    other = spec().model_copy(update={"blocks": (first.model_copy(update=change), *others)})
    file = official_checkpoint(tmp_path / "model.pth.tar")
    with pytest.raises(WeightsError) as caught:
        convert_weights(other, file, tmp_path / "c", to="canonical")
    assert said in str(caught.value)


def test_dropout_and_the_size_of_images_are_free(tmp_path: Path) -> None:
    blocks = tuple(block.model_copy(update={"dropout": 0.2}) for block in spec().blocks)
    size = spec().input.model_copy(update={"height": 160, "width": 192})
    other = spec().model_copy(update={"blocks": blocks, "input": size})
    file = official_checkpoint(tmp_path / "model.pth.tar")
    assert len(read_weights(other, file)) == len(read_weights(spec(), file))


@pytest.mark.parametrize("change", [{"bottleneck": False}, {"stages": 3, "bottleneck": True}])
def test_a_spec_that_is_not_of_their_form_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    file = official_checkpoint(tmp_path / "model.pth.tar")
    with pytest.raises(WeightsError):
        convert_weights(clique(**change), file, tmp_path / "c", to="canonical", format="official")


# ---- what a checkpoint implies -----------------------------------------------------------


def test_the_implied_spec_is_the_one_that_the_authors_state(tmp_path: Path) -> None:
    file = official_checkpoint(tmp_path / "Fine-tuned 2.pth.tar")
    assert check_official(spec(), file) == []
    found = infer_spec(file, "official_tiny")
    assert found == spec().model_copy(update={"expect": found.expect})
    text = inferred_text(file)
    written = cliquegraph.loads(text)
    assert written.name == "fine_tuned_2"
    assert written.expect.parameters == 118_889
    assert cliquegraph.Compilation(written).lowered.digest() == (
        cliquegraph.Compilation(spec()).lowered.digest()
    )
    assert len(read_weights(written, file)) == len(read_weights(spec(), file))


SHIPPED = ["cliquenet_s0", "cliquenet_s0_star", "cliquenet_s2", "cliquenet_s3", "cliquenet_s3_star"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_full_checkpoint_implies_the_shipped_spec(tmp_path: Path, name: str) -> None:
    from cliquegraph.weights import formats
    from tests.networks import shipped

    network = shipped(name)
    (theirs,) = formats(network, "official")
    rng = np.random.default_rng(0)
    state = {
        key: torch.from_numpy(rng.random(shape, np.float32)) for key, shape in theirs.shapes.items()
    }
    state |= {key: torch.tensor(7) for key in theirs.counters}
    file = official_checkpoint(tmp_path / "model.pth.tar", state)
    assert check_official(network, file) == []
    assert infer_spec(file, name).blocks == network.blocks
    convert_weights(network, file, tmp_path / "c", to="canonical")
    assert len(contents(tmp_path / "c")) == len(theirs.shapes)


def test_where_a_spec_differs_is_told_key_by_key(tmp_path: Path) -> None:
    state = official_state()
    state["fc.weight"], state["fc.bias"] = state["fc.weight"][:10], state["fc.bias"][:10]
    file = official_checkpoint(tmp_path / "model.pth.tar", state)
    assert check_official(spec(), file) == [("classifier.classes", 10, 1000)]
    assert infer_spec(file).classifier.classes == 10


@pytest.mark.parametrize(
    "damage", ["list_block.0.conv_param.2.weight", "list_trans.0.bn.running_var"]
)
def test_check_does_not_pass_a_checkpoint_that_lacks_a_tensor(tmp_path: Path, damage: str) -> None:
    state = official_state()
    del state[damage]
    file = official_checkpoint(tmp_path / "model.pth.tar", state)
    with pytest.raises(WeightsError, match=f"1 missing: {damage}"):
        check_official(spec(), file)


@pytest.mark.parametrize("share", [0.29, 0.3, 0.75, 1.0])
def test_the_implied_compression_is_lowerings(tmp_path: Path, share: float) -> None:
    from cliquegraph.weights import formats

    readout = spec().readout.model_copy(update={"compression": share})
    other = spec().model_copy(update={"readout": readout})
    shapes = formats(other, "official")[0].shapes
    torch.save({key: torch.zeros(shape) for key, shape in shapes.items()}, tmp_path / "x.pth")
    found = infer_spec(tmp_path / "x.pth")
    assert formats(found, "official")[0].shapes == shapes


@pytest.mark.parametrize("name", ["My Net", "class", "9"])
def test_a_name_that_no_network_can_have_is_refused(tmp_path: Path, name: str) -> None:
    file = official_checkpoint(tmp_path / "model.pth.tar")
    with pytest.raises(UsageError, match="is not a valid network name"):
        infer_spec(file, name)


def test_any_name_of_a_file_gives_a_name(tmp_path: Path) -> None:
    for name in ("class.pth", "9.tar", "___.pth", "Ünï 1.pth"):
        file = official_checkpoint(tmp_path / name)
        assert infer_spec(file).name.startswith("network") or name.startswith("Ü")


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    file = official_checkpoint(tmp_path / "x.pth")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged: the checksum of"):
        read_weights(spec(), file)


@pytest.mark.parametrize("key", ["model", "model_state_dict"])
def test_other_names_of_the_state_dict_are_known(tmp_path: Path, key: str) -> None:
    torch.save({"epoch": 1, key: official_state()}, tmp_path / "x.pth")
    assert infer_spec(tmp_path / "x.pth").blocks == spec().blocks


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    state = {**official_state(), "fc.weight": official_state()["fc.weight"].to_sparse()}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="is no dense tensor that holds numbers"):
        infer_spec(tmp_path / "x.pth")


def test_a_safetensors_copy_with_the_prefix_is_read_too(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    prefixed = {f"module.{name}": each for name, each in official_state().items()}
    save_file(prefixed, tmp_path / "x.safetensors")
    assert len(read_weights(spec(), tmp_path / "x.safetensors")) == 312


def test_a_checkpoint_that_fits_no_network_is_refused(tmp_path: Path) -> None:
    state = official_state()
    state["list_block.1.conv_param.7.weight"] = torch.zeros(6, 5, 1, 1)
    file = official_checkpoint(tmp_path / "model.pth.tar", state)
    with pytest.raises(WeightsError, match=r"conv_param\.7\.weight .* is \(6, 5, 1, 1\), must be"):
        infer_spec(file)
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pth")
    with pytest.raises(WeightsError, match="not a checkpoint in the authors' ImageNet format"):
        infer_spec(tmp_path / "resnet.pth")
