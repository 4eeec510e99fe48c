"""``kind: clique``: every two layers connected both ways, updated in stages (section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from cliquegraph.blocks.model import (
    Block,
    Conv,
    Dropout,
    Layer,
    Norm,
    Ops,
    Output,
    Read,
    Relu,
    Schedule,
    Words,
)
from cliquegraph.blocks.phrases import bottleneck_note, stage_numeral
from cliquegraph.blocks.random_ops import draw_edges, draw_entry
from cliquegraph.blocks.topology import Direction, Edges, Entry, Topology
from cliquegraph.blocks.visits import Order, Visits
from cliquegraph.plugins.kinds import Document, Fuzzing, Kind, Random
from cliquegraph.spec.schema import (
    BlockSpec,
    Channels,
    OddKernel,
    Rate,
    impossible,
    together,
    up_to,
)


class CliqueBlock(BlockSpec):
    """A clique: every two layers connected both ways, updated in stages (section 3.1)."""

    kind: Literal["clique"] = "clique"
    """the kind of block"""
    layers: Annotated[int, up_to("MAX_LAYERS")]
    """n, the number of layers X1..Xn"""
    filters: Channels
    """k, the channels of each layer"""
    kernel: OddKernel = 3
    """size of the spatial kernel"""
    bottleneck: bool = False
    """W(i→j) becomes 1×1 and a spatial V(j), k→k, follows (section 3.3)"""
    dropout: Rate = 0.0
    """rate, after every convolution of a unit"""
    unit: Literal["pre_activation", "post_activation"] = "pre_activation"
    """BN–ReLU–convolution, or convolution–BN–ReLU as Eq. (1) is written"""
    stages: Annotated[int, up_to("MAX_STAGES")] = 2
    """how many times the layers are visited; stage 1 initializes them from X0"""
    update: Literal["alternate", "simultaneous"] = "alternate"
    """read the newest version of every other layer, or the previous stage's"""
    order: Order = "ascending"
    """the order in which layers are visited, in every stage"""
    last_stage_updates: Annotated[int, Field(ge=0)] | None = None
    """how many layers the last stage visits; default: all"""
    feature: Annotated[int, Field(ge=1)] | None = None
    """the stage whose layers, with X0, are the block feature; default: the last"""
    transit: Annotated[int, Field(ge=1)] | None = None
    """the stage whose layers are passed on to the next block; default: the last"""
    norm_per_stage: bool = True
    """separate batch normalizations for each stage; false: stages from 3 on use those of stage 2"""
    edges: Edges = "complete"
    """which layers read each other: complete, chain, ring, none, nearest, small_world, or a list"""
    direction: Direction = "both"
    """of these pairs: both ways, those to a higher layer (forward), or to a lower one (feedback)"""
    self: Literal[True] | None = None
    """true: each layer reads its own last version too, by a kernel"""
    input: Entry = Entry()
    """who reads X0, and in which stages"""

    @model_validator(mode="after")
    def _schedule_is_possible(self) -> Self:
        if errors := list(self._schedule_errors()):
            raise together(errors)
        return self

    def _schedule_errors(self) -> Iterator[PydanticCustomError]:
        n, stages, visits = self.layers, self.stages, self.visits
        yield from visits.faults()
        for key in ("feature", "transit"):
            stage = getattr(self, key)
            if stage is not None and stage > stages:
                yield impossible(f"must be a stage of the block, 1 to {stages}", key)
        alone = not self.self and self.input.stages == "first"
        if n == 1 and stages > 1 and (stages > 2 or self.last_stage_updates != 0) and alone:
            yield impossible(
                "must be at least 2, or stages 1: in stage 2 a single layer has none to read",
                "layers",
            )
        elif sorted(visits.sequence) == list(range(1, n + 1)):
            yield from self._topology.faults()

    @property
    def reads(self) -> int:
        """layers × layers × stages: an upper bound on the number of features that updates read."""
        return self.stages * self.layers**2

    @property
    def _topology(self) -> Topology:
        """Who reads whom."""
        visits = self.visits
        itself = frozenset(visits.sequence if self.self else ())
        return Topology(
            self.edges, self.direction, itself, self.input, visits.sequence, visits.updates
        )

    @property
    def visits(self) -> Visits:
        """When the layers are visited."""
        return Visits(self.layers, self.stages, self.order, self.last_stage_updates)

    @property
    def feature_stage(self) -> int:
        """The stage of the block feature."""
        return self.stages if self.feature is None else self.feature

    @property
    def transit_stage(self) -> int:
        """The stage whose layers are passed on to the next block."""
        return self.stages if self.transit is None else self.transit


def clique(spec: CliqueBlock) -> Block:
    """Return the block that a clique's keys declare."""
    numbers = range(1, spec.layers + 1)
    edge, layer = _ops(spec)
    topology, visits = spec._topology, spec.visits
    every_stage = spec.input.stages == "all"
    return Block(
        layers=tuple(
            Layer(
                reads=tuple(Read(i, edge, every_stage and i == 0) for i in topology.sources(j)),
                filters=spec.filters,
                ops=layer,
            )
            for j in numbers
        ),
        schedule=Schedule(
            order=visits.sequence,
            updates=visits.updates,
            simultaneous=spec.update == "simultaneous",
        ),
        feature=Output(tuple(numbers), spec.feature_stage, with_input=True),
        transit=Output(tuple(numbers), spec.transit_stage),
        words=_words(spec),
        norms="per_stage" if spec.norm_per_stage else "second",
    )


def _ops(spec: CliqueBlock) -> tuple[Ops, Ops]:
    """The ops of an edge and of a layer; with a bottleneck W(i→j) is 1×1 (section 3.3)."""
    kernel = 1 if spec.bottleneck else spec.kernel
    dropout: Ops = (Dropout(spec.dropout),) if spec.dropout else ()
    edge: Ops = (Conv(kernel, spec.filters),)
    layer: Ops = dropout
    if spec.bottleneck:
        spatial = Conv(spec.kernel, spec.filters, role="v")
        layer = (*dropout, Norm("mid_norm"), Relu(), spatial, *dropout)
    if spec.unit == "pre_activation":
        return (Norm(), Relu(), *edge), layer
    return edge, (*layer, Norm(), Relu())


def _words(spec: CliqueBlock) -> Words:
    stages = "1 stage" if spec.stages == 1 else f"{spec.stages} stages of {spec.update} updates"
    visits = spec.visits
    layers = f"{spec.layers} layer{'s' * (spec.layers > 1)}"
    order = "" if spec.order == "ascending" else f" in the order {list(visits.sequence)}"
    size = f"{spec.layers} layers × {spec.filters} filters"
    topology = spec._topology.words
    keys = ("filters", "kernel", "unit", "bottleneck", "dropout", "norm_per_stage")
    return Words(
        kind=spec.kind,
        title=f"Clique, {size}{topology}{visits.words}, {stages}",
        size=size,
        unit="Update",
        unit_doc="One update (Table 1)",
        short=_short(spec),
        note=_note(spec),
        drawn=spec._topology.drawn,
        steps_comment="updatej_s: writes Xj in stage s",
        unit_keys=tuple((key, getattr(spec, key)) for key in keys),
        shared=f"Clique of {layers}{topology}{order}, {stages} (section 3.1)",
        paper="CliqueNet: Yang et al., CVPR 2018, section 3, https://arxiv.org/abs/1802.10419",
    )


def _short(spec: CliqueBlock) -> tuple[str, ...]:
    """The stages, and those of feature and transit if they are not the last."""
    stages = f"{spec.stages} stage{'s' * (spec.stages > 1)}{', bottleneck' * spec.bottleneck}"
    feature, transit = spec.feature_stage, spec.transit_stage
    if (feature, transit) == (spec.stages, spec.stages):
        return (stages,)
    return (
        stages,
        f"feature of stage {stage_numeral(feature)}",
        f"transit of stage {stage_numeral(transit)}",
    )


def _note(spec: CliqueBlock) -> str | None:
    return bottleneck_note(spec.layers, spec.kernel) if spec.bottleneck else None


# ---- random blocks, and smaller ones ------------------------------------------------------------


def _draw(rng: Random) -> Document:
    n = rng.integer(1, 4)
    stages = rng.integer(1, 4) if n > 1 else rng.integer(1, 2)
    block = {
        "layers": n,
        "filters": rng.integer(1, 3),
        **rng.some(
            kernel=rng.one((1, 3, 5)),
            bottleneck=rng.holds(0.7),
            dropout=rng.one((0.0, 0.1, 0.5)),
            unit=rng.one(("pre_activation", "post_activation")),
            update=rng.one(("alternate", "simultaneous")),
            order=rng.one(("ascending", "descending", rng.order(n), rng.order(n))),
            norm_per_stage=rng.holds(0.3),
        ),
        **({"stages": stages} if stages != 2 or rng.holds(0.4) else {}),
        **rng.some(
            last_stage_updates=rng.integer(0, n) if stages > 1 else n,
            feature=rng.integer(1, stages),
            transit=rng.integer(1, stages),
        ),
    }
    if n == 1 and stages == 2:
        block["last_stage_updates"] = 0
    block |= _draw_topology(rng, block)
    if rng.holds(0.3):
        block["kind"] = "clique"
    return block


def _draw_topology(rng: Random, block: Document) -> Document:
    """Return keys about who reads whom, such as the block can have; none if several draws fail."""
    n = block["layers"]
    for _ in range(4):
        keys = rng.some(
            0.5,
            edges=draw_edges(rng, n),
            direction=rng.one(("both", "forward", "feedback")),
            self=True,
            input=draw_entry(rng, n),
        )
        try:
            CliqueBlock.model_validate({**block, **keys})
        except ValidationError:
            continue
        return keys
    return {}


def _smaller(block: Document) -> Iterator[Document]:
    yield from _fewer_layers(block)
    yield from _fewer_stages(block)


def _fewer_layers(block: Document) -> Iterator[Document]:
    """The block with one layer fewer; an order that names layers loses one too."""
    n = block.get("layers", 1) - 1
    if n < 1:
        return
    smaller = {**block, "layers": n}
    if "last_stage_updates" in smaller:
        smaller["last_stage_updates"] = min(smaller["last_stage_updates"], n)
    if not isinstance(smaller.get("order"), list):
        yield smaller
        return
    for removed in smaller["order"]:
        others = [layer for layer in smaller["order"] if layer != removed]
        yield {**smaller, "order": [layer - (layer > removed) for layer in others]}


def _fewer_stages(block: Document) -> Iterator[Document]:
    """The block with one stage fewer; keys that name stages are clamped to the last one."""
    stages = block.get("stages", CliqueBlock.model_fields["stages"].default) - 1
    if stages < 1:
        return
    keys = [key for key in ("feature", "transit") if key in block]
    smaller: Document = {**block, "stages": stages}
    smaller |= {key: min(block[key], stages) for key in keys}
    if stages == 1:
        smaller.pop("last_stage_updates", None)  # stage 1 visits every layer
    yield smaller


KIND = Kind(
    CliqueBlock,
    clique,
    fuzzing=Fuzzing(
        _draw,
        smaller=_smaller,
        schedule=(
            *("layers", "stages", "order", "last_stage_updates", "feature", "transit"),
            *("edges", "direction", "self", "input"),
        ),
        counted=("stages",),
        weight=3,
    ),
)
