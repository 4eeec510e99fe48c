"""What a trace does not see is refused; what it sees has the line of the model's source."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import cliquegraph
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof.prove import FileProof, Prover

SPEC = cliquegraph.load("specs/quickstart.yaml")
COMPILATION = Compilation(SPEC, 0)
PROVER = Prover(COMPILATION)


def prove(backend: str, old: str, new: str) -> FileProof:
    found = find_backend(backend)
    source = COMPILATION.source(found)
    assert old in source
    return PROVER.prove(COMPILATION, found, source.replace(old, new, 1))


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_features_are_computed_once_in_a_pass(backend: str) -> None:
    line = "feature1, feature2 = self.forward_features(x)"
    twice = f"{line}\n        {line.replace('(x)', '(x * 2)')}"
    with pytest.raises(VerificationError, match="is called twice in one forward pass"):
        prove(backend, line, twice)


def test_a_trace_leaves_the_number_of_threads() -> None:
    torch_backend = find_backend("torch")
    source = COMPILATION.source(torch_backend)
    tracer = torch_backend.tracer(source, SPEC.python_class, COMPILATION.graph)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        tracer.trace((3, 1, *PROVER.size), "evaluation")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("hook", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_parameters_are_refused(hook: str) -> None:
    apply = "self.apply(init_weights)"
    with pytest.raises(VerificationError, match="hook"):
        prove("torch", apply, f"{apply}\n        self.block1.w1.{hook}(lambda g: None)")


_CLASSIFIER = "self.classifier(pooled)"


@pytest.mark.parametrize(
    ("backend", "read"),
    [
        ("torch", "pooled.detach().numpy()[0, 0]"),
        ("torch", "pooled.tolist()[0][0]"),
        ("torch", "__import__('numpy').asarray(pooled.detach())[0, 0]"),
        ("torch", "__import__('numpy').from_dlpack(pooled.detach())[0, 0]"),
        ("torch", "float(pooled[0, 0])"),
        ("torch", "pooled[0, 0].item()"),
        ("torch", "self.block1.w1.detach().numpy()[0, 0, 0, 0]"),
        ("flax", "float(pooled[0, 0])"),
        ("flax", "__import__('numpy').asarray(pooled)[0, 0]"),
        ("flax", "pooled[0, 0].item()"),
    ],
)
def test_values_that_python_reads_are_refused_with_the_line(backend: str, read: str) -> None:
    """Each is a decision which both traces take in the same way."""
    changed = f"self.classifier(pooled if {read} > -1e9 else 2 * pooled)"
    with pytest.raises(VerificationError, match=r"^line \d+: .*(what the model computes|values)"):
        prove(backend, _CLASSIFIER, changed)


def test_what_a_model_makes_of_the_refusal_does_not_count() -> None:
    read = "__import__('contextlib').suppress(Exception)"
    line = "        logits: Tensor = self.classifier(pooled)"
    swallowed = f"        with {read}:\n            pooled.detach().numpy()\n{line}"
    with pytest.raises(VerificationError, match=r"numpy\(\) reads a tensor's elements"):
        prove("torch", line, swallowed)


def test_reads_are_restored_after_a_trace() -> None:
    assert PROVER.prove(COMPILATION, find_backend("torch")).ok
    ones = torch.ones(2)
    assert ones.tolist() == ones.numpy().tolist() == np.asarray(ones).tolist() == [1, 1]


HOOKS = [
    ("self.block1.w1.register_post_accumulate_grad_hook(lambda w: None)", "registers a hook"),
    ("self.stem.register_forward_hook(lambda m, x, y: None)", "registers a hook"),
    ("nn.modules.module.register_module_forward_hook(lambda m, x, y: None)", "a global hook"),
]


@pytest.mark.parametrize(("hook", "message"), HOOKS)
def test_hooks_that_a_call_registers_are_refused(hook: str, message: str) -> None:
    try:
        with pytest.raises(VerificationError, match=message):
            prove(
                "torch",
                _CLASSIFIER,
                f"self.classifier(pooled if self.training and {hook} else pooled)",
            )
    finally:
        nn.modules.module._global_forward_hooks.clear()


@pytest.mark.parametrize("kind", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_hooks_of_modules_on_gradients_are_refused(kind: str) -> None:
    apply = "self.apply(init_weights)"
    with pytest.raises(VerificationError, match="changes gradients can't be traced: its module st"):
        prove("torch", apply, f"{apply}\n        self.stem.{kind}(lambda *_: None)")


def test_global_hooks_are_refused() -> None:
    handle = nn.modules.module.register_module_full_backward_hook(lambda *_: None)
    try:
        with pytest.raises(VerificationError, match="a global hook of all modules"):
            PROVER.prove(COMPILATION, find_backend("torch"))
    finally:
        handle.remove()


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_a_difference_has_the_line_of_the_block(backend: str) -> None:
    old, new = "[x1_2, x3_1, x4_1]", "[x1_1, x3_1, x4_1]"
    found = prove(backend, old, new).difference
    assert found is not None
    source = COMPILATION.source(find_backend(backend)).replace(old, new, 1).splitlines()
    assert found.line is not None
    method = [line for line in source[: found.line] if line.startswith("    def ")][-1]
    assert "self" in method
    assert "X2@2" in found.message


def test_a_file_that_fails_is_refuted_with_its_line() -> None:
    proof = prove(
        "torch", "feature1 = torch.cat([x, *layers1], 1)", "feature1 = torch.cat(layers1, 1)"
    )
    assert not proof.ok
    assert "the model fails: " in str(proof.difference)
    assert ", line " in str(proof.difference)


def test_a_file_that_ends_the_process_is_no_proof() -> None:
    with pytest.raises(cliquegraph.CliqueGraphError, match=r"can't be loaded: .*SystemExit"):
        prove("torch", "import torch\n", "import sys\nimport torch\nsys.exit(0)\n")
