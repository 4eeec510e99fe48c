"""Gradients in evaluation, as fine-tuning with fixed statistics takes them, are compared too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cliquegraph.compiler import Compilation
from cliquegraph.plugins.backends import find_backend
from cliquegraph.proof.certify import certify
from cliquegraph.proof.prove import FileProof, Prover
from cliquegraph.proof.weights_map import parse_map
from tests.networks import clique, graph_of
from tests.proof.by_hand import clique as cliques

SPEC = clique(layers=2, filters=2, stages=2)
PROVER = Prover(Compilation(SPEC, 0))
CLASSIFIER = "self.classifier(pooled1)"


def prove(backend: str, level: int, old: str, new: str) -> FileProof:
    compilation, found = Compilation(SPEC, level), find_backend(backend)
    source = compilation.source(found)
    assert old in source, source
    return PROVER.prove(compilation, found, source.replace(old, new, 1))


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_a_gradient_that_is_stopped_in_evaluation_alone_is_refuted(backend: str) -> None:
    value = "pooled1 if self.training else pooled1.detach()"
    if backend == "flax":
        evaluation = "self.block1.update1_1.norm.use_running_average"
        value = f"jax.lax.stop_gradient(pooled1) if {evaluation} else pooled1"
    proof = prove(backend, 0, CLASSIFIER, f"self.classifier({value})")
    assert str(proof.difference).endswith("is not as declared, in evaluation"), proof.difference


def test_other_results_where_gradients_are_enabled_in_evaluation_are_refuted() -> None:
    factor = "(1 + (torch.is_grad_enabled() and not self.training))"
    proof = prove("torch", 0, CLASSIFIER, f"self.classifier(pooled1 * {factor})")
    message = "a readout, or the classifier, is not as declared, in evaluation with gradients"
    assert message in str(proof.difference)


def test_the_gradient_of_fixed_moments_is_compared() -> None:
    """In training their gradient as part of the maps' is the same sum."""
    proof = prove("torch", 1, "stop, norm.training, x.shape", "stop, True, x.shape")
    assert str(proof.difference).endswith("in evaluation"), proof.difference


class WithoutGradients(cliques.CliqueNet):
    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.training):
            return super().forward(x)


def test_a_model_without_gradients_in_evaluation_is_not_certified() -> None:
    spec = clique()
    placed = parse_map(cliques.clique_map(), "map.yaml", graph_of(spec))
    found = certify(spec, WithoutGradients(), placed)
    assert not found.ok
    assert "the gradient of classifier.bias is not as declared, in evaluation" in found.messages[0]
