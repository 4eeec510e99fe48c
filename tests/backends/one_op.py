"""Networks of a few ops in their stem, built and printed without a spec."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from cliquegraph.emit.body import straight_body
from cliquegraph.emit.execute import load_source
from cliquegraph.emit.members import arguments_of, members_of, own_member, shared_slot
from cliquegraph.emit.names import is_bare, member_name
from cliquegraph.emit.things import Child, Dense, Member, MemberGroup
from cliquegraph.emit.view import (
    Apply,
    BankSlice,
    Body,
    CallChild,
    ClassView,
    Expression,
    Kind,
    Local,
    ModelView,
    Own,
    Statement,
    Variable,
)
from cliquegraph.ir import ops
from cliquegraph.ir.builder import Builder
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Origin
from cliquegraph.ir.storage import Array
from cliquegraph.ir.types import Field, Init, MapType, Part, Section, Slot
from cliquegraph.plugins.backends import find_backend

STEM, CLASSIFIER = Section(Part.STEM), Section(Part.CLASSIFIER)
X = Variable("x", Kind.TENSOR)
ROLES = {ops.Bias: "bias", ops.Gate: "gate"}
NO_INIT: Mapping[Field, Init] = MappingProxyType({})


def graph_of_ops(
    *sequence: ops.Op,
    channels: int,
    size: tuple[int, int] = (5, 7),
    init: Mapping[Field, Init] = NO_INIT,
    shared: bool = False,
) -> Graph:
    """Ops one after the other, whose result is the feature; then a classifier.

    ``init`` is that of the last op. With ``shared`` their tensors are those that the stages of a
    block share.
    """
    builder = Builder("one_op")
    builder.origin = Origin(STEM)
    value = builder.add(ops.Input(channels, *size), [], hint="x")
    for position, op in enumerate(sequence):
        slot = None
        if op.fields:
            role = ROLES.get(type(op), "v" if shared and isinstance(op, ops.Conv) else "part")
            layer = position if shared else None
            index = None if role in ROLES.values() or shared else position
            slot = Slot(STEM, role, layer=layer, index=index, shared=shared)
        starts = init if position == len(sequence) - 1 else NO_INIT
        value = builder.add(op, [value], slot=slot, init=starts)
    feature = value
    builder.origin = Origin(CLASSIFIER)
    if isinstance(value.type, MapType):
        value = builder.add(ops.GlobalAvgPool(), [value])
    logits = builder.add(ops.Linear(2), [value], slot=Slot(CLASSIFIER, ""))
    return builder.finish(logits, [feature])


def view_of(graph: Graph) -> ModelView:
    """The view of such a graph: a class ``Stem``, in which an ``Update`` has the shared tensors."""
    stem = [node for node in graph.nodes[1:] if node.origin.section == STEM]
    (feature,) = graph.features
    members = members_of(stem)
    shared = arguments_of(stem)

    def shared_or_own(node: Node) -> tuple[Expression, ...]:
        slot = shared_slot(node)
        return own_member(node) if slot is None else (Local(shared[slot]),)

    arguments = [
        Variable(name, Kind.KERNEL if is_bare(slot) else Kind.LAYER)
        for slot, name in shared.items()
    ]
    update = ClassView(
        name="Update",
        doc="The ops.",
        widths=(),
        strides=(),
        kept=(),
        groups=() if shared or not members else (MemberGroup(None, members),),
        inputs=(X, *arguments),
        body=straight_body(stem, {graph.input: Local("x")}, [feature], shared_or_own, {}),
    )
    keywords = tuple(
        (
            name,
            BankSlice(member_name(slot), None, None) if is_bare(slot) else Own(member_name(slot)),
        )
        for slot, name in shared.items()
    )
    block = ClassView(
        name="Stem",
        doc="The owner of the tensors.",
        widths=(),
        strides=(),
        kept=(),
        groups=(MemberGroup(None, (*members, Member("update", Child("Update", ())))),),
        inputs=(X,),
        body=Body((Statement(("x",), CallChild("update", (Local("x"),), keywords)),), (X,)),
    )
    value: Expression = Local("x")
    if isinstance(feature.type, MapType):
        value = Apply(ops.GlobalAvgPool(), (value,), ())
    logits = Statement(("z",), Apply(ops.Linear(2), (value,), (Own("classifier"),)), declares=True)
    stem_class = block.name if shared else update.name
    dense = Dense(feature.type.channels, "num_classes")
    network = (Member("stem", Child(stem_class, ())), Member("classifier", dense))
    images = graph.input.type
    assert isinstance(images, MapType)
    return ModelView(
        header=("    Written by a test.",),
        class_name="OneOp",
        doc="A network of a test.",
        references=("No paper.",),
        classes_default=2,
        input_shape=(images.channels, images.height, images.width),
        classes=(update, block) if shared else (update,),
        groups=(MemberGroup(None, network),),
        input_name="x",
        gather=None,
        features=Body((Statement(("x",), CallChild("stem", (Local("x"),))),), (X,)),
        logits=Body((logits,), (Variable("z", Kind.TENSOR),)),
        alike={},
    )


def source_of(graph: Graph, backend: str) -> str:
    """What a backend prints for such a graph."""
    return find_backend(backend).write(view_of(graph))


def class_of(graph: Graph, backend: str) -> Any:
    """The class of the generated network."""
    return load_source(source_of(graph, backend), "one_op").OneOp


def values_of(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Random values for the tensors of the stem, by canonical name without the section."""
    rng = np.random.default_rng(seed)
    return {
        param.field.value: rng.normal(size=param.shape)
        for param in graph.params
        if param.slot.section == STEM and param.field.trainable
    }
