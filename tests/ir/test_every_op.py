"""For a new op, every place that must handle it fails until it does."""

from __future__ import annotations

from typing import Any

import pytest

import cliquegraph_flax.spell
import cliquegraph_torch.spell
from cliquegraph.compiler import Compilation
from cliquegraph.emit import members, words
from cliquegraph.emit.outline import outline
from cliquegraph.emit.render import environment
from cliquegraph.emit.view import Expression, Local, Own, Unit
from cliquegraph.ir import ops
from cliquegraph.ir.ops import OPS, Op
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import find_backend
from cliquegraph.semantics.interpret import evaluate
from cliquegraph_torch import eager
from tests.networks import EVERY_KEY, graphs_of

# Where an op must be handled by name; a default would be a guess.
HANDLERS: dict[str, tuple[Any, set[type[Op]]]] = {
    "interpreter": (evaluate, set()),
    # A normalization by shared moments is only ever part of a unit, which is one call.
    # How many channels of zeros an op writes is a number or an argument of the class.
    "torch": (cliquegraph_torch.spell.spell_op, {ops.Input, ops.Normalize, *ops.FILLS}),
    # In JAX's layout a convolution is printed by a separate function.
    "flax": (
        cliquegraph_flax.spell.spell_op,
        {ops.Input, ops.Normalize, *ops.FILLS, ops.Conv},
    ),
}


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.mnemonic)
@pytest.mark.parametrize("place", HANDLERS)
def test_every_op_has_a_handler(place: str, op: type[Op]) -> None:
    dispatch, exempt = HANDLERS[place]
    handled = dispatch.dispatch(op) is not dispatch.dispatch(Op)
    assert handled or op in exempt, f"{place} does not know {op.mnemonic}"


def test_an_op_without_handlers_is_seen() -> None:
    class Unheard(Op):
        mnemonic = "unheard"

    for dispatch, _ in HANDLERS.values():
        assert dispatch.dispatch(Unheard) is dispatch.dispatch(Op)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.mnemonic)
def test_every_op_with_tensors_has_a_member_that_holds_them(op: type[Op]) -> None:
    default = members.thing_of.dispatch(Op)
    if op.fields:
        assert members.thing_of.dispatch(op) is not default


@pytest.mark.parametrize("op", [op for op in OPS if "_" in op.mnemonic], ids=lambda op: op.mnemonic)
def test_words_do_not_fall_back_to_a_mnemonic_of_two_words(op: type[Op]) -> None:
    assert words.describe.dispatch(op) is not words.describe.dispatch(Op)


KEEPS_NOTHING = {
    ops.Input,
    ops.Concat,
    ops.Stack,
    ops.Add,
    ops.Mean,
    *ops.FILLS,
    ops.Bias,
    ops.Upsample,
    ops.GlobalAvgPool,
    ops.GlobalMean,
    ops.Normalize,
    ops.Keep,
    ops.DrawColumn,
    ops.JoinWeights,
}
"""The gradient of a sum, a concatenation or a pad needs no value of the forward pass; masks,
weights of joins and zeros have none.

A normalization by shared moments is only ever part of a unit, which defines what it saves.
"""


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.mnemonic)
def test_every_op_says_what_its_gradient_keeps(op: type[Op]) -> None:
    keeps = any(
        function.dispatch(op) is not function.dispatch(Op)
        for function in (eager.saved_values, eager.extra_bytes)
    )
    assert keeps != (op in KEEPS_NOTHING)


def test_the_networks_of_the_tests_use_every_op() -> None:
    graphs = [graph for spec in EVERY_KEY.values() for graph in graphs_of(spec).values()]
    assert {type(node.op) for graph in graphs for node in graph} == set(OPS)


# ---- units ---------------------------------------------------------------------------------


def unit(norm: Expression | None, given: bool) -> Unit:
    return Unit(
        sources=Local("sources"),
        norm=norm,
        given=given,
        conv=None,
        kernel=None,
        banked=False,
        recompute=False,
    )


FUNCTIONS = {unit(norm, given).function for norm in (None, Own("norm")) for given in (True, False)}


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
@pytest.mark.parametrize("name", ["torch", "flax"])
def test_every_unit_has_a_helper_of_its_name(name: str, function: str) -> None:
    helper = environment(f"cliquegraph_{name}").get_template(f"{function}.py.jinja").render()
    assert f"def {function}(" in helper
    assert function in find_backend(name).reserved


def test_the_networks_of_the_tests_use_every_unit() -> None:
    called = set()
    for spec in EVERY_KEY.values():
        compilation = Compilation(spec, max(LEVELS))
        called |= outline(compilation.steps, compilation.graph, (), ()).functions
    assert called == FUNCTIONS
