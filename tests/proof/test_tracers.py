"""What a trace does not see is refused; what it sees has the line of the model's source."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("hook", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_parameters_are_refused(hook: str) -> None:
    apply = "self.apply(init_weights)"
    with pytest.raises(VerificationError, match="hook"):
        prove("torch", apply, f"{apply}\n        self.block1.w1.{hook}(lambda g: None)")


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
