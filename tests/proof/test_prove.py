"""Proofs of generated files: the right ones are proved, and one change each is refuted."""

from __future__ import annotations

from functools import cache

import pytest

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import UsageError, VerificationError
from cliquegraph.ir.ops import Dropout
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof import prove as proofs
from cliquegraph.proof.prove import WANTED, FileProof, Prover
from cliquegraph.semantics.arithmetic import rational, survival
from tests.networks import EVERY_KEY, clique, network

QUICKSTART = "specs/quickstart.yaml"
SMALL = clique(layers=3, filters=2, stages=2, dropout=0.25)


@cache
def _prover(name: str) -> tuple[NetworkSpec, Prover]:
    spec = SMALL if name == "small" else EVERY_KEY.get(name) or cliquegraph.load(name)
    return spec, Prover(Compilation(spec, 0))


def prove(name: str, backend: str, option: int | None, *changes: tuple[str, str]) -> FileProof:
    """Prove a generated file, in which texts are replaced."""
    spec, prover = _prover(name)
    folded = option is None
    compilation = Compilation(spec, option or 0, inference=folded)
    found = find_backend(backend)
    source = compilation.source(found)
    for old, new in changes:
        assert old in source, source
        source = source.replace(old, new, 1)
    return prover.prove(compilation, found, source)


@pytest.mark.parametrize("backend", ["torch", "flax"])
@pytest.mark.parametrize("option", [0, 1, 2, None])
@pytest.mark.parametrize("name", [QUICKSTART, "small"])
def test_generated_files_are_proved(name: str, backend: str, option: int | None) -> None:
    proof = prove(name, backend, option)
    assert proof.ok, proof.difference
    assert proof.bound < WANTED
    groups = {"logits, evaluation", "block features, evaluation"}
    if option is not None:
        groups |= {"logits, training", "block features, training", "running statistics"}
        groups |= {"gradients", "gradients, evaluation"}
        trained = cliquegraph.network_cost(Compilation(_prover(name)[0], 0).lowered).total
        if option == 0:
            assert proof.compared["gradients"] == trained.parameters
            assert proof.compared["gradients, evaluation"] == trained.parameters
    assert groups <= proof.compared.keys()


_NORM = "nn.BatchNorm2d(in_channels)"
_THIRD = "x3_2 = self.update3_2([x1_2, x2_2, x4_1]"
_FEATURE, _POOLED = "feature1 = torch.cat([x", "self.readout2(feature2)"

TORCH = [
    (0, "w=self.w1[:, k0:]", "w=self.w1[:, : 3 * k]", "stage 2 layer 1: X1@2"),
    (0, "[x1_2, x3_1, x4_1]", "[x1_1, x3_1, x4_1]", "stage 2 layer 2: X2@2"),
    (0, "self.update2_2([", "self.update1_2([", "stage 2 layer 2"),
    (0, _NORM, f"{_NORM[:-1]}, eps=1.00001e-5)", "stage 1 layer 1"),
    (0, _NORM, f"{_NORM[:-1]}, momentum=0.11)", "moves not as declared"),
    (0, "self.w2[:, k0:])", "self.w2[:, k0:].detach())", "the gradient of block2.w4_2.weight"),
    (0, _THIRD, _THIRD.replace("x1_2", "x1_2.detach()"), "the gradient of"),
    (0, _FEATURE, f"{_FEATURE} * 1.0000001", "block1: the block feature"),
    (0, _POOLED, f"{_POOLED} * (1 + 2**-52)", "a readout, or the classifier"),
    (1, "slope = 2 * grad_var", "slope = 2.0000001 * grad_var", "the gradient of"),
    (2, "grad_scale / 2", "grad_scale / 3", "the gradient of"),
]


@pytest.mark.parametrize(("option", "old", "new", "message"), TORCH)
def test_one_change_of_a_file_is_refuted(option: int, old: str, new: str, message: str) -> None:
    proof = prove(QUICKSTART, "torch", option, (old, new))
    assert not proof.ok
    assert message in str(proof.difference), proof.difference


DETAILS = [
    (0, _NORM, f"{_NORM[:-1]}, eps=1.00001e-5)", "normalization is 1.00001e-05, declared is 1e-05"),
    (0, _NORM, f"{_NORM[:-1]}, momentum=0.11)", "it moves by 0.11 of the way, declared is 0.1"),
    (
        0,
        "[x1_2, x3_1, x4_1]",
        "[x1_1, x3_1, x4_1]",
        "the model reads {X1@1, X3@1, X4@1}, declared is {X1@2, X3@1, X4@1}",
    ),
    (0, "self.update2_2([", "self.update1_2([", "the model uses block1.x1.s2.norm, declared is"),
    (0, "w, padding=1)", "w, padding=1) * 2", "the model computes it, and then changes it"),
]


@pytest.mark.parametrize(("option", "old", "new", "message"), DETAILS)
def test_a_difference_says_what_the_model_does_instead(
    option: int, old: str, new: str, message: str
) -> None:
    assert message in str(prove(QUICKSTART, "torch", option, (old, new)).difference)


def test_a_difference_in_a_slab_names_the_line_that_computes_the_value() -> None:
    found = prove(QUICKSTART, "torch", 1, ("[x1_2, x3_1, x4_1]", "[x1_1, x3_1, x4_1]")).difference
    assert "stage 2 layer 2: X2@2, of {X1@2, X3@1, X4@1}, is not as declared" in str(found)
    assert found is not None and found.line is not None
    source = cliquegraph.compile(QUICKSTART, "torch", level=1).splitlines()
    assert "norm_relu(sources, self.norm, w, padding=1)" in source[found.line - 1]


def test_dropout_at_another_rate_is_refuted() -> None:
    proof = prove("small", "torch", 0, ("0.25", "0.26"))
    assert "draws element at 0.26, declared is element at 0.25" in str(proof.difference)


_LOGITS = "        logits: Tensor = self.classifier(pooled)\n"
_RETURNED = "return feature1, feature2\n"
_READ = "feature1, feature2 = self.forward_features(x)"
_MEAN = "self.readout1.norm.running_mean"
_LAST = "self.apply(init_weights)\n"


def _then(statement: str) -> tuple[str, str]:
    """After the logits are computed, another statement."""
    return _LOGITS, f"{_LOGITS}        {statement}\n"


def _initially(statement: str) -> tuple[str, str]:
    return _LAST, f"{_LAST}        {statement}\n"


STATE = [
    (
        [
            (_RETURNED, "self.two = feature2\n        return (feature1,)\n"),
            (_READ, "(feature1,), feature2 = self.forward_features(x), self.two"),
        ],
        "returns 1 block features, not 2",
    ),
    ([_then(f"self.training or {_MEAN}.mul_(0.5)")], "running_mean is changed in evaluation"),
    ([_then("self.training or self.classifier.weight.data.mul_(0.5)")], "parameter classifier.w"),
    (
        [
            (
                "self.classifier(pooled)",
                "self.classifier(pooled) * (1 + 0 * pooled.sum() + ("
                "0 if self.training else self.readout1.norm.num_batches_tracked))",
            )
        ],
        "or the classifier",
    ),
    ([_initially("self.more = nn.Parameter(torch.zeros(3))")], "1 unexpected: more"),
    ([_initially("self.readout1.norm.num_batches_tracked = None")], "counter of batches readout1"),
    ([_initially("self.classifier.bias.requires_grad_(False)")], "bias is not trained, but is as"),
    (
        [
            ("nn.Linear(80, num_classes)", "nn.Linear(88, num_classes)"),
            ("self.classifier(pooled)", "pooled @ self.classifier.weight[:, :80].t()"),
        ],
        "classifier.weight is (10, 88), must be (10, 80)",
    ),
    (
        [
            (
                "self.classifier(pooled)",
                "self.classifier(torch.zeros_like(pooled, dtype=torch.long)"
                ".copy_(pooled) * 0 + pooled)",
            )
        ],
        "rounded to integers",
    ),
    (
        [
            (
                "self.classifier(pooled)",
                "self.classifier(pooled + torch.full((), 1.5, dtype=torch.long) - 1.5)",
            )
        ],
        "rounded to integers",
    ),
    ([_then(f"{_MEAN} = {_MEAN} * 0.5 if self.training else {_MEAN}")], "moves not as declared"),
    ([_initially("self.classifier.weight.register_hook(lambda slope: slope / 2)")], "has one"),
]


@pytest.mark.parametrize(("changes", "message"), STATE)
def test_other_results_than_logits_are_compared(
    changes: list[tuple[str, str]], message: str
) -> None:
    try:
        proof = prove(QUICKSTART, "torch", 0, *changes)
    except VerificationError as error:
        assert message in str(error)
    else:
        assert not proof.ok
        assert message in str(proof.difference)


def test_a_statistic_may_be_read_in_part() -> None:
    assert prove("schedule", "torch", 1).ok


DRAWS = [
    (
        "drop_path",
        "keep = torch.bernoulli(survival) if",
        "keep = survival if",
        "rounded to integers",
    ),
    ("join_drop", "draws.amax().clamp(max=self.rate)", "draws.amax()", "no meaning in exact"),
    ("join_drop", "number == torch.arange", "number != torch.arange", "no meaning in exact"),
    (
        "join_drop",
        "column = self.draw_column(x)",
        "column = torch.zeros_like(self.draw_column(x))",
        "not drawn",
    ),
]


@pytest.mark.parametrize("name", ["drop_path", "join_drop"])
def test_files_that_drop_branches_are_proved(name: str) -> None:
    assert prove(name, "torch", 0).ok


@pytest.mark.parametrize(("name", "old", "new", "message"), DRAWS)
def test_what_draws_otherwise_than_our_templates_is_not_proved(
    name: str, old: str, new: str, message: str
) -> None:
    try:
        proof = prove(name, "torch", 0, (old, new))
    except VerificationError as error:
        assert message in str(error)
    else:
        assert message in str(proof.difference)


UNREAD = network(*[{"layers": 2, "filters": 2, "feature": 1, "transit": 1, "dropout": 0.25}] * 2)
"""Nothing reads the last update of a block; that before moves running statistics alone."""


def test_the_mask_of_an_update_that_nothing_reads_need_not_be_drawn() -> None:
    """In Flax's files at -O0, jax leaves it out; those that follow are still told apart."""
    compilation, flax = Compilation(UNREAD, 0), find_backend("flax")
    source, prover = compilation.source(flax), Prover(compilation)
    program = flax.tracer(source, UNREAD.python_class, compilation.graph).trace(
        (3, 2, *prover.size), "training"
    )
    drawn = sum("draw" in step.operator for step in program.steps)
    declared = sum(isinstance(node.op, Dropout) for node in compilation.graph.nodes)
    assert drawn == declared - 2
    proof = prover.prove(compilation, flax)
    assert proof.ok, proof.difference
    for update in ("update1_1", "update1_2"):
        at = source.index("\n", source.index(f"self.{update} = Update("))
        silent = f"{source[:at]}\n        self.{update}.dropout.rate = 0.0{source[at:]}"
        found = prover.prove(compilation, flax, silent)
        assert "draws nothing, but dropout is declared" in str(found.difference)


def test_a_rate_whose_complement_rounds_is_proved() -> None:
    """1 - 1/27 in float64 is not the number nearest to 26/27, and models compute the former."""
    rate = 4 / 54 * 0.5
    assert survival(rate) != 1 - rational(rate)
    drop = {"last": rate, "per": "image", "scale": "evaluation"}
    spec = network({"kind": "residual", "layers": 2, "filters": 2, "drop_path": drop})
    prover = Prover(Compilation(spec, 0))
    for backend in ("torch", "flax"):
        proof = prover.prove(Compilation(spec, 0), find_backend(backend))
        assert proof.ok, proof.difference


def test_a_proof_that_runs_out_of_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(*arguments: object) -> None:
        raise MemoryError

    compilation = Compilation(cliquegraph.load(QUICKSTART), 0)
    monkeypatch.setattr(Prover, "compare", exhaust)
    with pytest.raises(UsageError, match=r"quickstart: .* more memory than there is: .* verify"):
        Prover(compilation).prove(compilation, find_backend("torch"))


def test_a_network_of_more_numbers_than_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "physical_memory", lambda: 2**20)
    compilation = Compilation(cliquegraph.load(QUICKSTART), 0)
    with pytest.raises(UsageError, match=r"quickstart: .* 4×4 images, about \d+ GiB, .* verify"):
        Prover(compilation).prove(compilation, find_backend("torch"))


@pytest.mark.parametrize("declared", ["resnet50", "resnet50_v1"])
def test_a_stride_in_another_convolution_is_named_and_not_the_skip(declared: str) -> None:
    small = ["blocks.*.layers=2", "blocks.*.filters=4", "stem.filters=4", "class_name=Net"]
    small += ["input.height=64", "input.width=64", "classifier.classes=4", "expect={}"]
    networks = {
        name: cliquegraph.load(f"specs/{name}.yaml", small) for name in ("resnet50", "resnet50_v1")
    }
    compilation, torch = Compilation(networks.pop(declared), 0), find_backend("torch")
    (other,) = networks.values()
    source = Compilation(other, 0).source(torch)
    found = Prover(compilation).prove(compilation, torch, source)
    assert "block2, stage 1 layer 1" in str(found.difference)
    assert "what its convolution computes is not in the model" in str(found.difference)
