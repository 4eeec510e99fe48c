"""``kind: graph``: any layers, edges, ops and schedule that the model of a block has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from cliquegraph.blocks.build import Graph, LayerPlan, build, drop_path_faults, faults_of
from cliquegraph.blocks.keys import LocalDrop, OutputKeys, list_or_one, tuple_of
from cliquegraph.blocks.model import Block, Words
from cliquegraph.blocks.random_ops import (
    draw_edge,
    draw_edges,
    draw_entry,
    draw_layer,
    without_an_op,
)
from cliquegraph.blocks.topology import Direction, EdgesWithOps, EntryWithOps
from cliquegraph.blocks.visits import Order, Visits
from cliquegraph.plugins.kinds import Document, Fuzzing, Kind, Random
from cliquegraph.spec.ops import OpList, format_ops
from cliquegraph.spec.schema import (
    LABEL_PATTERN,
    MAX_LAYERS,
    BlockSpec,
    Channels,
    Kernel,
    Path,
    SpecModel,
    together,
    up_to,
)


class LayerKeys(SpecModel):
    """One layer: keys that replace those of the block."""

    filters: Channels | None = None
    """k, the channels of its convolutions"""
    edge: OpList | None = None
    """the ops on each source that it reads"""
    feedback: OpList | None = None
    """the ops on a source of a higher index"""
    self: OpList | None = None
    """the ops on its own last version; []: the value itself"""
    layer: OpList | None = None
    """the ops on what it combines"""
    combine: Literal["sum", "mean"] | None = None
    """the sum or the mean of what it reads"""
    name: Annotated[str, Field(pattern=LABEL_PATTERN, max_length=24)] | None = None
    """its name in drawings"""


Layers = Annotated[
    Annotated[int, up_to("MAX_LAYERS"), Tag("<one>")]
    | Annotated[
        tuple[LayerKeys, ...],
        Field(min_length=1, json_schema_extra={"maxItems": MAX_LAYERS}),
        Tag("<list>"),
    ],
    Discriminator(list_or_one),
    BeforeValidator(tuple_of),
]


class GraphBlock(BlockSpec):
    """A block of any layers and edges, with their ops and their schedule."""

    kind: Literal["graph"]
    """the kind of block"""
    layers: Layers
    """n, the number of layers X1..Xn, or a list of the keys of each"""
    filters: Channels | None = None
    """k, the channels of convolutions that name none"""
    edges: EdgesWithOps = "complete"
    """which layers read each other: complete, chain, ring, none, nearest, small_world, or a list of
    [source, target] or [source, target, ops]"""
    direction: Direction = "both"
    """of these pairs: both ways, those to a higher layer (forward), or to a lower one (feedback)"""
    self: OpList | None = None
    """the ops on a layer's own last version; []: the value itself; default: it is not read"""
    input: EntryWithOps = EntryWithOps()
    """who reads X0, in which stages, and by which ops"""
    edge: OpList = ()
    """the ops on each source that a layer reads; []: the value itself"""
    feedback: OpList | None = None
    """the ops on a source of a higher index; default: edge"""
    combine: Literal["sum", "mean"] = "sum"
    """the sum or the mean of what a layer reads"""
    layer: OpList = ()
    """the ops on what a layer combines"""
    stages: Annotated[int, up_to("MAX_STAGES")] = 1
    """how many times the layers are visited"""
    update: Literal["alternate", "simultaneous"] = "alternate"
    """read the newest version of every other layer, or the previous stage's"""
    order: Order = "ascending"
    """the order in which layers are visited, in every stage"""
    last_stage_updates: Annotated[int, Field(ge=0)] | None = None
    """how many layers the last stage visits; default: all"""
    initial: Literal["visit", "zero"] = "visit"
    """stage 1 reads what has been visited, or X0 alone; a layer that then reads nothing starts from
    zeros"""
    stride: Kernel = 1
    """of the convolution with reduce: true, in the stages in which its layer reads X0"""
    norms: Literal["per_stage", "shared"] = "per_stage"
    """separate normalizations for each stage, or one set"""
    output: OutputKeys = OutputKeys()
    """what the next block reads"""
    feature: OutputKeys | None = None
    """what readouts read; default: output"""
    drop_path: LocalDrop | None = None
    """drop-path of the operands of means: {local: rate}"""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if errors := list(self._errors()):
            raise together(errors)
        return self

    def _errors(self) -> Iterator[PydanticCustomError]:
        yield from self._errors_of_drop_path()
        yield from faults_of(self.as_graph())

    def _errors_of_drop_path(self) -> Iterator[PydanticCustomError]:
        """Errors of drop-path on skips."""
        listed = self.layers if isinstance(self.layers, tuple) else ()
        sections: list[tuple[Path, GraphBlock | LayerKeys]] = [((), self)]
        sections += [(("layers", place), each) for place, each in enumerate(listed)]
        for path, section in sections:
            for key in ("edge", "feedback", "self", "layer"):
                ops = getattr(section, key) or ()
                yield from drop_path_faults(ops, *path, key, edge=key != "layer")
        yield from drop_path_faults(self.input.edge or (), "input", "edge", edge=True)
        if isinstance(self.edges, tuple):
            for place, pair in enumerate(self.edges):
                yield from drop_path_faults(
                    pair[2] if len(pair) > 2 else (), "edges", place, 2, edge=True
                )

    @property
    def reads(self) -> int:
        """Layers × (layers + 1) × stages: an upper bound on the features that updates read."""
        return self.stages * len(self.plans) * (len(self.plans) + 1)

    @property
    def plans(self) -> tuple[LayerPlan, ...]:
        """Each layer, with the keys of the block where it has none of its own."""
        keys: Sequence[Any]
        keys = [LayerKeys()] * self.layers if isinstance(self.layers, int) else self.layers
        return tuple(self._plan(each) for each in keys)

    def _plan(self, keys: LayerKeys) -> LayerPlan:
        def either(name: str) -> Any:
            own = getattr(keys, name)
            return getattr(self, name) if own is None else own

        edge, feedback = either("edge"), either("feedback")
        return LayerPlan(
            filters=either("filters"),
            edge=edge,
            feedback=edge if feedback is None else feedback,
            itself=either("self"),
            layer=either("layer"),
            combine=either("combine"),
            label=keys.name,
            own=frozenset(key for key in ("feedback", "self") if getattr(keys, key) is not None),
        )

    def as_graph(self) -> Graph:
        """Return what the keys say, with their defaults filled in."""
        plans = self.plans
        return Graph(
            layers=plans,
            edges=self.edges,
            direction=self.direction,
            entry=self.input,
            visits=Visits(len(plans), self.stages, self.order, self.last_stage_updates),
            simultaneous=self.update == "simultaneous",
            initial=self.initial,
            stride=self.stride,
            norms=self.norms,
            output=self.output,
            feature=self.output if self.feature is None else self.feature,
            drop=(self.drop_path.local if self.drop_path else 0.0, 0.0),
            feedback=self.feedback is not None,
            listed=isinstance(self.layers, tuple),
            self_path=self._self_path(),
        )

    def _self_path(self) -> Path:
        """Where the first layer that reads itself is told to."""
        if self.self is None and isinstance(self.layers, tuple):
            for place, keys in enumerate(self.layers):
                if keys.self is not None:
                    return ("layers", place, "self")
        return ("self",)


def graph(spec: GraphBlock) -> Block:
    """Return the block that a graph's keys declare."""
    return build(spec.as_graph(), _words(spec))


def _words(spec: GraphBlock) -> Words:
    declared = spec.as_graph()
    n = len(declared.layers)
    layers = f"{n} layer{'s' * (n > 1)}"
    widths = sorted({layer.filters for layer in declared.layers if layer.filters is not None})
    size = layers
    if widths:
        filters = str(widths[0]) if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"
        size = f"{layers} × {filters} filters"
    stages = "1 stage" if spec.stages == 1 else f"{spec.stages} stages of {spec.update} updates"
    stages += ", from zeros" * (spec.initial == "zero")
    stride = f", stride {spec.stride}" if spec.stride > 1 else ""
    topology = declared.topology.words
    staged = spec.stages > 1
    return Words(
        kind=spec.kind,
        title=f"Graph, {size}{topology}{declared.visits.words}, {stages}{stride}",
        size=size,
        unit="Update" if staged else "Layer",
        unit_doc="One update" if staged else "One layer",
        short=(f"{spec.stages} stage{'s' * staged}{stride}",),
        step="update" if staged else "layer",
        staged=staged,
        steps_comment="updatej_s: writes Xj in stage s" if staged else None,
        unit_keys=_unit_keys(spec),
        shared=f"Graph of {layers}{topology}{declared.visits.words}, {stages}",
        drawn=declared.topology.drawn,
    )


def _unit_keys(spec: GraphBlock) -> tuple[tuple[str, object], ...]:
    """The keys that determine a unit; ops as a spec writes them."""
    keys: list[tuple[str, object]] = [("filters", spec.filters)]
    for key in ("edge", "feedback", "self", "layer"):
        ops = getattr(spec, key)
        keys.append((key, None if ops is None else format_ops(ops)))
    return (*keys, ("combine", spec.combine), ("norms", spec.norms))


# ---- random blocks, and smaller ones ------------------------------------------------------------


def _draw(rng: Random) -> Document:
    for _ in range(30):
        block = _draw_once(rng)
        try:
            GraphBlock.model_validate(block)
        except ValidationError:
            continue
        return block
    return {"kind": "graph", "layers": 1, "layer": [{"conv": 3, "filters": 2}]}


def _draw_once(rng: Random) -> Document:
    n, stages = rng.integer(1, 3), rng.integer(1, 3)
    kernels = rng.one(("edge", "layer", "both"))
    on_edge, in_layer = kernels != "layer", kernels != "edge"
    stride = rng.one((1, 1, 2))
    drop = rng.holds(0.3)
    ops = draw_layer(rng, kernel=in_layer, reduce=stride > 1, drop=drop)
    edges = draw_edges(rng, n)
    if isinstance(edges, list) and edges and rng.holds(0.5):
        edges[0] = [*edges[0], draw_edge(rng, kernel=on_edge)]
    block: Document = {
        "kind": "graph",
        "layers": n,
        "filters": rng.integer(1, 3),
        "edge": draw_edge(rng, kernel=on_edge),
        "layer": ops,
        "edges": edges,
        **({"stages": stages} if stages > 1 or rng.holds(0.3) else {}),
        **({"stride": stride} if stride > 1 or rng.holds(0.3) else {}),
        **rng.some(
            direction=rng.one(("both", "forward", "feedback")),
            feedback=draw_edge(rng, kernel=on_edge),
            self=draw_edge(rng, kernel=on_edge),
            combine=rng.one(("sum", "mean")),
            update=rng.one(("alternate", "simultaneous")),
            order=rng.one(("ascending", "descending", rng.order(n))),
            last_stage_updates=rng.integer(0, n),
            initial=rng.one(("visit", "zero")),
            norms=rng.one(("per_stage", "shared")),
            output=_draw_output(rng, n),
            feature=_draw_output(rng, n),
            drop_path=rng.some(0.7, local=rng.one((0.0, 0.25, 0.5))),
            input={
                **draw_entry(rng, n),
                **rng.some(edge=draw_edge(rng, kernel=on_edge)),
            },
        ),
    }
    if rng.holds(0.4):
        block["layers"] = [_draw_keys(rng, on_edge, in_layer) for _ in range(n)]
    if rng.holds(0.2):  # then each convolution names its own, or its layer does
        del block["filters"]
    return block


def _draw_keys(rng: Random, on_edge: bool, in_layer: bool) -> Document:
    return rng.some(
        0.25,
        filters=rng.integer(1, 3),
        edge=draw_edge(rng, kernel=on_edge),
        feedback=draw_edge(rng, kernel=on_edge),
        self=draw_edge(rng, kernel=on_edge),
        layer=draw_layer(rng, kernel=in_layer, reduce=False, drop=False),
        combine=rng.one(("sum", "mean")),
        name=rng.one(("V1", "join")),
    )


def _draw_output(rng: Random, n: int) -> Document:
    some = [j for j in range(1, n + 1) if rng.holds(0.7)] or [n]
    return rng.some(
        0.5,
        layers=rng.one(("all", "last", "sinks", some)),
        input=rng.holds(0.3),
        combine=rng.one(("concat", "mean")),
    )


def _smaller(block: Document) -> Iterator[Document]:
    layers = block.get("layers")
    if isinstance(layers, int) and layers > 1:
        yield {**block, "layers": layers - 1}
    if isinstance(layers, list):
        yield {**block, "layers": len(layers)}
    if block.get("stages", 1) > 1:
        yield {**block, "stages": block["stages"] - 1}
    yield from without_an_op(block)


KIND = Kind(
    GraphBlock,
    graph,
    fuzzing=Fuzzing(
        _draw,
        smaller=_smaller,
        schedule=tuple(key for key in GraphBlock.model_fields if key not in ("kind", "update")),
        counted=("stages",),
        weight=4,
    ),
)
