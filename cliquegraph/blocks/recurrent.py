"""``kind: recurrent``: one layer that reads X0 and itself again and again (RCNN, CVPR 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from cliquegraph.blocks.build import Graph, LayerPlan, build, drop_path_faults, faults_of
from cliquegraph.blocks.keys import OutputKeys
from cliquegraph.blocks.model import Block, Words
from cliquegraph.blocks.random_ops import draw_layer, without_an_op
from cliquegraph.blocks.topology import EntryWithOps
from cliquegraph.blocks.visits import Visits
from cliquegraph.plugins.kinds import Document, Fuzzing, Kind, Random
from cliquegraph.spec.ops import ConvOp, OpList, format_ops
from cliquegraph.spec.schema import MAX_STAGES, BlockSpec, Channels, Kernel, set_by, together

_KERNEL: OpList = (ConvOp(conv=3),)


class RecurrentBlock(BlockSpec):
    """One layer that reads X0 and its own last version in every step (RCNN, CVPR 2015)."""

    kind: Literal["recurrent"]
    """the kind of block"""
    filters: Channels
    """k, the channels of the layer"""
    steps: Annotated[
        int,
        Field(ge=1, le=MAX_STAGES - 1, json_schema_extra={"$comment": set_by("MAX_STAGES")}),
    ]
    """T, how often the layer reads itself: T + 1 stages, the first of which reads X0 alone"""
    edge: OpList = _KERNEL
    """the ops on X0"""
    self: OpList = _KERNEL
    """the ops on the layer's own last version; []: the value itself"""
    combine: Literal["sum", "mean"] = "sum"
    """the sum or the mean of the two"""
    layer: OpList = ()
    """the ops on what the layer combines"""
    stride: Kernel = 1
    """of the convolution with reduce: true"""
    norms: Literal["per_stage", "shared"] = "per_stage"
    """separate normalizations for each step, or one set"""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if errors := list(self._errors()):
            raise together(errors)
        return self

    def _errors(self) -> Iterator[PydanticCustomError]:
        for key in ("edge", "self", "layer"):
            yield from drop_path_faults(getattr(self, key), key, edge=key != "layer")
        yield from faults_of(self.as_graph())

    @property
    def reads(self) -> int:
        """2 × (steps + 1): X0 and itself."""
        return 2 * (self.steps + 1)

    def as_graph(self) -> Graph:
        """Return the graph that these keys stand for."""
        last = OutputKeys(layers="last")
        plan = LayerPlan(
            self.filters, edge=self.edge, itself=self.self, layer=self.layer, combine=self.combine
        )
        return Graph(
            layers=(plan,),
            edges="none",
            entry=EntryWithOps(stages="all"),
            visits=Visits(1, self.steps + 1),
            output=last,
            feature=last,
            stride=self.stride,
            norms=self.norms,
        )


def recurrent(spec: RecurrentBlock) -> Block:
    """Return the block that a recurrent block's keys declare."""
    steps = f"{spec.steps} step{'s' * (spec.steps > 1)}"
    stride = f", stride {spec.stride}" if spec.stride > 1 else ""
    ops = ((key, format_ops(getattr(spec, key))) for key in ("edge", "self", "layer"))
    words = Words(
        kind=spec.kind,
        title=f"Recurrent layer, {spec.filters} filters, {steps}{stride}",
        size=f"{spec.filters} filters",
        unit="Update",
        unit_doc="One step of a recurrent layer",
        short=(f"{steps}{stride}",),
        steps_comment="update1_s: writes X1 in stage s",
        unit_keys=(
            ("filters", spec.filters),
            *ops,
            ("combine", spec.combine),
            ("norms", spec.norms),
        ),
        shared=f"Recurrent layer, {steps} (section 3)",
        paper="RCNN: Liang & Hu, CVPR 2015, section 3, https://openaccess.thecvf.com/"
        "content_cvpr_2015/html/Liang_Recurrent_Convolutional_Neural_2015_CVPR_paper.html",
    )
    return build(spec.as_graph(), words)


# ---- random blocks, and smaller ones ------------------------------------------------------------


def _draw(rng: Random) -> Document:
    stride = rng.one((1, 1, 2))
    reduce = {"reduce": True} if stride > 1 else {}
    return {
        "kind": "recurrent",
        "filters": rng.integer(1, 3),
        "steps": rng.integer(1, 3),
        **rng.some(
            self=rng.one(([{"conv": 1}], ["norm", "relu", {"conv": 3}], [])),
            combine=rng.one(("sum", "mean")),
            layer=draw_layer(rng, kernel=rng.holds(0.3), reduce=False, drop=False),
            norms=rng.one(("per_stage", "shared")),
        ),
        **({"edge": [{"conv": 3, **reduce}]} if stride > 1 or rng.holds(0.3) else {}),
        **({"stride": stride} if stride > 1 or rng.holds(0.3) else {}),
    }


KIND = Kind(
    RecurrentBlock,
    recurrent,
    fuzzing=Fuzzing(_draw, smaller=without_an_op, schedule=("steps", "edge", "stride")),
)
