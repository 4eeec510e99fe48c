"""``verify``: it holds for every network of the language, and finds what is wrong in a model."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.blocks.clique import CliqueBlock
from cliquegraph.blocks.dense import DenseBlock
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.ir.ops import BatchNorm
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.proof.verification import Verification, relative_error
from cliquegraph.proof.verify import SGD_STEPS, Trial, _compare_histories, _float32_tolerance
from cliquegraph.weights.sample import sample_tensors
from cliquegraph_torch.execute import TorchExecutor
from tests.networks import DYING, EVERY_KEY, clique, graph_of, network, networks, shipped
from tests.tampered import verify_tampered

FORWARD = {
    f"{what}, {mode}"
    for what in ("logits", "block features", "running statistics")
    for mode in ("evaluation", "training")
}
HISTORY = {"gradients", "losses", f"weights after {SGD_STEPS} SGD steps"}


def assert_holds(found: Verification) -> None:
    assert found.ok, (found.first_difference, found.max_error, found.max_error_float32)


# ---- it holds ------------------------------------------------------------------------------


def compared(name: str, everything: set[str]) -> set[str]:
    """What is compared of a network; without batch normalization it has no running statistics."""
    if any(isinstance(node.op, BatchNorm) for node in graph_of(EVERY_KEY[name]).nodes):
        return everything
    return {each for each in everything if not each.startswith("running statistics")}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", EVERY_KEY)
def test_pytorch_computes_what_the_interpreter_does(name: str, level: int) -> None:
    found = cliquegraph.verify(EVERY_KEY[name], ["torch"], level=level, seed=1)
    assert_holds(found)
    assert found.first_difference is None
    # Above -O0, gradients and steps are compared with those at -O0.
    assert found.max_error.keys() == compared(name, FORWARD | HISTORY if level else FORWARD)
    assert found.max_error_float32.keys() == {"logits, evaluation"}


IN_FLAX = [
    *((name, 1) for name in EVERY_KEY),
    *((name, 2) for name in ("abc", "post_activation")),
    *((name, 0) for name in ("shared_norm", "schedule")),
]


@pytest.mark.parametrize(("name", "level"), IN_FLAX)
def test_both_backends_compute_what_the_interpreter_does(name: str, level: int) -> None:
    found = cliquegraph.verify(EVERY_KEY[name], ["torch", "flax"], level=level, seed=1)
    assert_holds(found)
    assert found.max_error.keys() == compared(name, FORWARD | HISTORY)


@given(networks(), st.sampled_from(tuple(LEVELS)))
@settings(max_examples=3, suppress_health_check=list(HealthCheck))
def test_both_backends_compute_random_networks(spec: NetworkSpec, level: int) -> None:
    assert_holds(cliquegraph.verify(spec, ["torch", "flax"], level=level))


@given(networks(), st.sampled_from((1, 2, 0)))
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_pytorch_computes_random_networks(spec: NetworkSpec, level: int) -> None:
    assert_holds(cliquegraph.verify(spec, ["torch"], level=level, batch=3))


def keys_of(model: BaseModel) -> set[tuple[str, str, str]]:
    """Every key of a spec with the kind of value that it has."""
    found = set()
    for key in type(model).model_fields:
        value = getattr(model, key)
        if isinstance(value, BaseModel):
            found |= keys_of(value)
        word = value if isinstance(value, str | bool) or value is None else type(value).__name__
        found.add((type(model).__name__, key, str(word)))
    return found


def test_random_networks_reach_every_key_and_every_word_of_the_language() -> None:
    seen: set[tuple[str, str, str]] = set()

    @given(networks())
    @settings(max_examples=100)
    def collect(spec: NetworkSpec) -> None:
        seen.update(keys_of(spec))
        for block in spec.blocks:
            seen.update(keys_of(block))

    collect()
    wanted = {
        (CliqueBlock, "update", "simultaneous"),
        (CliqueBlock, "unit", "post_activation"),
        (CliqueBlock, "order", "tuple"),
        (CliqueBlock, "order", "descending"),
        (CliqueBlock, "last_stage_updates", "int"),
        (CliqueBlock, "feature", "int"),
        (CliqueBlock, "transit", "int"),
        (CliqueBlock, "norm_per_stage", "False"),
        (CliqueBlock, "bottleneck", "True"),
        (DenseBlock, "bottleneck", "int"),
        (DenseBlock, "bottleneck", "False"),
        (type(NetworkSpec.model_fields["transition"].default), "attention", "True"),
        (type(NetworkSpec.model_fields["transition"].default), "pool", "max"),
        (type(NetworkSpec.model_fields["readout"].default), "blocks", "last"),
        (type(NetworkSpec.model_fields["readout"].default), "compression", "float"),
    }
    assert {(model.__name__, key, word) for model, key, word in wanted} <= seen
    assert {("Pool", "kind", "max"), ("Pool", "kind", "avg"), ("Stem", "norm", "True")} <= seen


def test_the_batch_and_the_seed_are_the_callers() -> None:
    errors = [
        cliquegraph.verify(clique(), ["torch"], seed=seed, batch=batch).max_error
        for seed, batch in ((0, 4), (0, 4), (1, 4), (0, 2))
    ]
    assert errors[0] == errors[1]
    assert errors[0] not in errors[2:]


def test_it_says_what_it_leaves_out() -> None:
    dropout = "dropout is switched off, since its masks differ between frameworks"
    literal = cliquegraph.verify(EVERY_KEY["dropout"], ["torch"], level=0)
    alone = "gradients and SGD steps: there is no second backend to compare with"
    assert literal.skipped == [dropout, alone]
    folded = cliquegraph.verify(EVERY_KEY["dropout"], ["torch"], inference=True)
    assert folded.skipped == [
        dropout,
        "training, gradients and statistics: a folded network has none",
    ]
    idle = cliquegraph.verify(clique(feature=1), ["torch"], level=1)
    assert idle.skipped == ["unused updates are not executed: their statistics do not change"]


# After two SGD steps of seed 2 most of its units are dead. What is constant has no variance, and
# every normalisation grows the rounding that is its gradient by 1/√eps. `fuzz` drew it.
def test_it_does_not_judge_rounding_that_a_dying_network_amplifies() -> None:
    found = cliquegraph.verify(DYING, ["torch"], level=1, seed=2)
    assert found.ok, found
    (said,) = found.unjudged
    assert re.fullmatch(
        r"weights after 3 SGD steps: changing last digits changes them by \de[+-]\d+, "
        r"so the comparison is inconclusive",
        said,
    )
    assert "weights after 3 SGD steps" not in found.max_error
    assert cliquegraph.verify(DYING, ["torch"], level=1, seed=3).unjudged == []


# Its recurrent layer has one map, which a kernel of 3×3 leaves almost constant: what its group norm
# divides by its deviation is the rounding of its mean. `fuzz` drew it.
def test_it_does_not_judge_the_rounding_of_a_mean() -> None:
    skip = {"skip": [{"conv": 1}, "norm", "relu", {"conv": 3}]}
    spec = network(
        {
            "kind": "graph",
            "layers": 2,
            "filters": 3,
            "edge": [{"conv": 3}, {"group_norm": 1}, "relu"],
            "layer": [skip],
            "edges": "complete",
            "direction": "feedback",
        },
        {
            "kind": "recurrent",
            "filters": 1,
            "steps": 2,
            "combine": "sum",
            "layer": [{"group_norm": 1}, {"skip": [*skip["skip"], "norm"]}, "relu"],
            "edge": [{"conv": 3, "reduce": True}],
            "stride": 2,
        },
        input={"channels": 1, "height": 5, "width": 7},
        stem={"filters": 4, "kernel": 5, "stride": 2},
        transition={"compression": 0.3, "pool": "max"},
        readout={"compression": None},
        classifier={"classes": 5},
    )
    found = cliquegraph.verify(spec, ["torch"], level=0, seed=17)
    assert found.ok, found
    assert any("training: changing last digits" in note for note in found.unjudged), found


# Changing last digits of weights moves its gradients less than -O1 does with some of these seeds,
# changing those of all results as much.
def test_it_asks_what_rounding_does_within_gradients() -> None:
    post = {"layers": 4, "filters": 2, "kernel": 1, "unit": "post_activation"}
    spec = network(
        {"kind": "dense", "layers": 2, "filters": 1},
        {"layers": 1, "filters": 1, "kernel": 5, "stages": 1},
        {**post, "order": "descending", "last_stage_updates": 3, "feature": 1},
        input={"channels": 1, "height": 6, "width": 9},
        stem={"filters": 2, "norm": True},
        transition={"pool": "max"},
        readout={"blocks": "last"},
    )
    unjudged: set[str] = set()
    for seed in (3, 13, 14):
        found = cliquegraph.verify(spec, ["torch"], level=1, seed=seed)
        assert found.ok, found
        unjudged.update(said.partition(":")[0] for said in found.unjudged)
    assert "gradients" in unjudged


def test_rounding_at_random_changes_last_digits() -> None:
    spec = network({"layers": 2, "filters": 3})
    graph = Compilation(spec, 0).graph
    source = cliquegraph.compile(spec, "torch")
    executor = TorchExecutor(source, spec.python_class, graph, "float64")
    executor.load(sample_tensors(graph, 0))
    images = np.random.default_rng(0).standard_normal((2, 2, 8, 8))
    labels = np.array([0, 1])
    _, plain = executor.gradients(images, labels)
    executor.round_at_random(0)
    _, rounded = executor.gradients(images, labels)
    assert 0 < relative_error(rounded, plain) < 1e-10
    assert all(np.array_equal(plain[name] == 0, rounded[name] == 0) for name in plain)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_no_number_is_no_rounding(number: float, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = TorchExecutor.gradients

    def wrong(self: TorchExecutor, *given: Any) -> Any:
        loss, found = gradients(self, *given)
        return loss, {name: np.full_like(array, number) for name, array in found.items()}

    monkeypatch.setattr(TorchExecutor, "gradients", wrong)
    found = cliquegraph.verify(DYING, ["torch"], level=1, seed=3)
    assert not found.ok
    assert found.max_error["gradients"] == np.inf


@pytest.mark.parametrize(("times", "judged"), [(9.9, False), (10.1, True)])
def test_an_error_of_more_than_ten_last_digits_is_judged(times: float, judged: bool) -> None:
    def history(number: float) -> dict[str, dict[str, Any]]:
        return {"gradients": {"w": np.array([1.0, number])}}

    found = Verification("n", ("a", "b"))
    compared = {"a": history(1.0), "b": history(1.0 + times * 1e-6)}
    _compare_histories(found, compared, lambda: (history(1.0), history(1.0 + 1e-6)))
    assert bool(found.max_error) == judged
    assert bool(found.unjudged) != judged
    assert (found.first_difference is not None) == judged


@pytest.mark.parametrize(("amplified", "allowed"), [(0.0, 1e-5), (0.9e-6, 1e-5), (1e-4, 1e-3)])
def test_float32_may_err_by_ten_times_what_rounding_its_inputs_does(
    amplified: float, allowed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interpreted(logit: float) -> Any:
        return SimpleNamespace(logits=np.array([logit]))

    module = sys.modules["cliquegraph.proof.verify"]
    monkeypatch.setattr(module, "interpret", lambda *_: interpreted(1.0 + amplified))
    trial = Trial({"w": np.ones(1)}, np.ones(1), np.ones(1, np.int64), ())
    graph: Any = None
    tolerance = _float32_tolerance(graph, trial, interpreted(1.0))
    assert tolerance == pytest.approx(allowed)


TRAINING = f"gradients and {SGD_STEPS} SGD steps"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"level": 0},
            ["interpreter, training", "torch, forward", f"torch, {TRAINING}", "torch, float32"],
        ),
        (
            {"level": 1},
            [
                "interpreter, training",
                f"torch -O0, {TRAINING}",
                "torch, forward",
                f"torch, {TRAINING}",
                "torch, float32",
            ],
        ),
        ({"inference": True}, ["torch, forward", "torch, float32"]),
    ],
    ids=str,
)
def test_it_reports_each_part_as_it_begins(keys: dict[str, Any], expected: list[str]) -> None:
    lines: list[str] = []
    cliquegraph.verify(clique(), ["torch"], report=lines.append, **keys)
    assert lines == ["interpreter, evaluation", *expected]


# ---- it finds what is wrong ----------------------------------------------------------------


# What was edited in the PyTorch file, and the first value that it makes wrong.
EDITS = {
    "two sources swapped": (
        "[x0, x1_1, x2_1], w=self.w3",
        "[x0, x2_1, x1_1], w=self.w3",
        "x3_1 of block1",
    ),
    "an old version": ("update3_2([x1_2, x2_2]", "update3_2([x1_1, x2_2]", "x3_2 of block1"),
    "another slice": (
        "self.update2_2([x1_2, x3_1], w=self.w2[:, k0:]",
        "self.update2_2([x1_2, x3_1], w=self.w2[:, 2:8]",
        "x2_2 of block1",
    ),
    "another layer's bank": ("self.w2[:, k0:]", "self.w3[:, k0:]", "x2_2 of block1"),
    "another stage's norm": ("self.update2_3([", "self.update2_2([", "x2_3 of block1"),
    "a feature of another stage": ("layers = [x1_3,", "layers = [x1_2,", "feature of block1"),
    "a feature without X0": ("[x, *layers1], 1)", "[0 * x, *layers1], 1)", "feature of block1"),
    "a transit in another order": (
        "self.transition1(torch.cat(layers1, 1))",
        "self.transition1(torch.cat(layers1[::-1], 1))",
        "x of transition1",
    ),
    "no ReLU": ("x = torch.relu_(self.norm(x))", "x = self.norm(x)", "x1_1 of block1"),
    "another pool": ("F.avg_pool2d", "F.max_pool2d", "x of transition1"),
    "no attention": ("x = x * z[:, :, None, None]", "x = x", "x of transition1"),
    "another stem": ("Tensor = self.conv(x)", "Tensor = 2 * self.conv(x)", "x of stem"),
    "a sum for a mean": ("return x.mean((2, 3))", "return x.sum((2, 3))", "z of readout1"),
    "blocks in another order": ("[pooled1, pooled2]", "[pooled2, pooled1]", "pooled"),
    "twice the logits": ("self.classifier(pooled)", "2 * self.classifier(pooled)", "logits"),
}


# Those of which the text is the same above -O0.
AT_EVERY_LEVEL = (
    "two sources swapped",
    "an old version",
    "another layer's bank",
    "another stage's norm",
    "blocks in another order",
    "twice the logits",
)


@pytest.mark.parametrize(
    ("edit", "level"),
    [*((edit, 0) for edit in EDITS), *((edit, 1) for edit in AT_EVERY_LEVEL)],
)
def test_it_names_the_first_value_that_differs(
    edit: str, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, place = EDITS[edit]
    found = verify_tampered(monkeypatch, old, new, level=level)
    assert not found.ok
    assert found.first_difference is not None
    said = found.first_difference.removeprefix(
        "torch, evaluation: the first value that differs is "
    )
    assert said.startswith(f"{place}, by ")


@pytest.mark.parametrize("level", LEVELS)
def test_a_block_may_be_read_as_maps_and_as_a_list(level: int) -> None:
    # Without a transition, the next block reads the concatenation, and the readout above -O0
    # the layers with their moments: two variables of the network.
    dense = {"kind": "dense", "layers": 2, "filters": 2}
    spec = network(dense, dense, transition="none", input={"channels": 1, "height": 4, "width": 4})
    assert cliquegraph.verify(spec, ["torch", "flax"], level=level).ok


def test_it_names_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    found = verify_tampered(monkeypatch, *EDITS["an old version"][:2])
    assert found.first_difference is not None
    assert found.first_difference.endswith("(block1, stage 2 layer 3)")


def test_it_finds_wrong_running_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    found = verify_tampered(
        monkeypatch, "nn.BatchNorm2d(in_channels)", "nn.BatchNorm2d(in_channels, momentum=0.2)"
    )
    wrong = {what for what, error in found.max_error.items() if error > 1e-6}
    assert wrong == {"running statistics, training"}
    assert found.first_difference == (
        "torch, training: no single value differs; what is returned or kept as running "
        "statistics does"
    )


def test_it_finds_a_mistake_that_only_training_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = verify_tampered(
        monkeypatch,
        "        x = torch.relu_(self.norm(x))\n",
        "        x = torch.relu(self.norm(x) + 0.1 * self.training)\n",
    )
    assert found.max_error["logits, evaluation"] < 1e-10
    assert found.first_difference is not None
    assert found.first_difference.startswith(
        "torch, training: the first value that differs is x1_1 of block1"
    )


def test_it_finds_the_same_in_flax(monkeypatch: pytest.MonkeyPatch) -> None:
    found = verify_tampered(
        monkeypatch,
        "[x0, x1_1, x2_1], w=self.w3",
        "[x0, x2_1, x1_1], w=self.w3",
        backend="flax",
        spec=clique(),
    )
    assert found.first_difference is not None
    assert found.first_difference.startswith(
        "flax, evaluation: the first value that differs is x3_1 of block1"
    )


def test_it_finds_gradients_that_differ_between_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    found = verify_tampered(
        monkeypatch,
        "F.conv2d(x, w, padding=1)",
        "F.conv2d(x, w.detach(), padding=1)",
        backends=("flax", "torch"),
        spec=clique(),
    )
    wrong = {what for what, error in found.max_error.items() if error > 1e-6}
    assert wrong == {"gradients", "losses", "weights after 3 SGD steps"}
    assert found.first_difference is not None
    assert found.first_difference.startswith(
        "torch, training: gradients of block1.w1.weight differ from flax's by "
    ) or found.first_difference.startswith("torch, training: gradients of block1.w0_1.weight")


@pytest.mark.parametrize("level", [1, 2])
def test_it_finds_gradients_that_only_a_level_has_wrong(
    level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    derived = "grad_mean, grad_var = grad_moments / len(data)"
    dropped = "grad_mean, grad_var = 0 * grad_moments"
    found = verify_tampered(monkeypatch, derived, dropped, level=level)
    wrong = {what for what, error in found.max_error.items() if error > 1e-6}
    assert wrong == {"gradients", "losses", "weights after 3 SGD steps"}
    assert found.first_difference is not None
    assert re.fullmatch(
        r"torch, training: gradients of .* differ from torch -O0's by .*", found.first_difference
    )


def test_no_backend_is_the_users_error() -> None:
    with pytest.raises(BackendError, match="there is no backend 'fortran'; installed: flax, torch"):
        cliquegraph.verify(clique(), ["fortran"])


# ---- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.0]}, 0.0),
        ({"a": [1.0, 2.2]}, {"a": [1.0, 2.0]}, 0.1),
        ({"a": [1.0], "b": [2.2]}, {"a": [1.0], "b": [2.0]}, 0.1),
        # Far below the group's largest: measured against a thousandth of that.
        ({"a": [1.0], "b": [2e-6]}, {"a": [1.0], "b": [1e-6]}, 1e-3),
        ({"a": [0.0]}, {"a": [0.0]}, 0.0),
        ({"a": [1e-300]}, {"a": [0.0]}, np.inf),
        ({"a": [np.nan]}, {"a": [1.0]}, np.inf),
        ({"a": [1.0]}, {"a": [np.nan]}, np.inf),
        ({"a": [1.0]}, {}, np.inf),
        ({}, {"a": [1.0]}, np.inf),
        ({"a": [1.0]}, {"a": [1.0, 1.0]}, np.inf),
    ],
)
def test_errors_are_relative_to_the_tensors_largest_number(
    found: dict[str, list[float]], expected: dict[str, list[float]], error: float
) -> None:
    arrays = [{name: np.array(each) for name, each in side.items()} for side in (found, expected)]
    assert relative_error(*arrays) == pytest.approx(error)


def test_quickstart_verifies() -> None:
    assert_holds(cliquegraph.verify(shipped("quickstart"), ["torch"]))
