"""``kind: fractal``: columns of convolutions that join (FractalNet, ICLR 2017)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import model_validator

from cliquegraph.blocks.build import Graph, LayerPlan, build
from cliquegraph.blocks.keys import FractalDropKeys, OutputKeys
from cliquegraph.blocks.model import Block, Words
from cliquegraph.blocks.topology import EntryWithOps
from cliquegraph.blocks.visits import Visits
from cliquegraph.plugins.kinds import Document, Fuzzing, Kind, Random
from cliquegraph.spec.ops import AvgPoolOp, ConvOp, DropoutOp, MaxPoolOp, OpList
from cliquegraph.spec.schema import BlockSpec, Channels, Path, Pool, Rate, fault, up_to


class FractalPool(Pool):
    """A pool at the end of a block; as in the stem, max pooling pads by (kernel - 1) // 2."""

    before_join: bool = False
    """true: pool each operand of the last join, and not their mean"""


class FractalBlock(BlockSpec):
    """A fractal block: column c has 2^(c - 1) convolutions; where columns meet, their mean."""

    kind: Literal["fractal"]
    """the kind of block"""
    columns: Annotated[int, up_to("MAX_COLUMNS")]
    """C, the number of columns"""
    filters: Channels
    """k, the channels of each convolution"""
    dropout: Rate = 0.0
    """rate, after every convolution"""
    pool: FractalPool | None = None
    """a pool at the end"""
    drop_path: FractalDropKeys | None = None
    """drop-path of the operands of joins: {local: rate, global: share of the batches}"""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.columns == 1 and self.drop_path is not None:
            message = "a block of one column has no join"
            raise fault(message, "drop_path", hint="remove it, or use more columns")
        return self

    @property
    def reads(self) -> int:
        """An upper bound: a join reads at most all columns, any other layer one value."""
        return self.columns << self.columns

    @property
    def column_share(self) -> tuple[float, Path] | None:
        """The share of the batches that keep one column, of a block that has joins."""
        drop = self.drop_path
        return (drop.global_, ("drop_path", "global")) if drop and drop.global_ else None

    def as_graph(self) -> Graph:
        """Return the graph that these keys stand for."""
        nodes = tuple(_nodes(self.columns))
        number = {node: j for j, node in enumerate(nodes, start=1)}
        edges, entered, plans = [], [], []
        for node in nodes:
            sources = [number[each] for each in _sources(node, self.columns)]
            edges += [(i, number[node]) for i in sources]
            entered += [] if sources else [number[node]]
            plans.append(self._plan(node))
        last = OutputKeys(layers="last")
        return Graph(
            layers=tuple(plans),
            edges=tuple(edges),
            entry=EntryWithOps(to=tuple(entered)),
            visits=Visits(len(nodes), 1),
            output=last,
            feature=last,
            drop=self._drop,
            listed=True,
        )

    @property
    def _drop(self) -> tuple[float, float]:
        drop = self.drop_path
        return (drop.local, drop.global_) if drop else (0.0, 0.0)

    def _plan(self, node: _Node) -> LayerPlan:
        is_last = node.end == 2 ** (self.columns - 1)
        before_join = self.pool is not None and self.pool.before_join and self.columns > 1
        pools = self._pool() if is_last and before_join == (node.column is not None) else ()
        if node.column is None:
            met = tuple(each.column for each in _sources(node, self.columns) if each.column)
            label = f"join{node.end // 2}"
            return LayerPlan(self.filters, layer=pools, combine="mean", label=label, columns=met)
        dropout: OpList = (DropoutOp(dropout=self.dropout),) if self.dropout else ()
        if self.columns == 1:
            pools = self._pool()
        return LayerPlan(
            self.filters,
            layer=(ConvOp(conv=3), *dropout, "norm", "relu", *pools),
            combine="mean",
            label=f"c{node.column}_{node.end // _length(node.column, self.columns)}",
        )

    def _pool(self) -> OpList:
        if (pool := self.pool) is None:
            return ()
        if pool.kind == "avg":
            return (AvgPoolOp(avg_pool=pool.kernel, stride=pool.stride),)
        pad = (pool.kernel - 1) // 2
        return (MaxPoolOp(max_pool=pool.kernel, stride=pool.stride, pad=pad),)


@dataclass(frozen=True)
class _Node:
    """A convolution of a column, or a join, by the depth at which it ends.

    Depth is counted in convolutions of the deepest column.
    """

    end: int
    column: int | None = None


def _length(column: int, columns: int) -> int:
    """How many convolutions of the deepest column stand beside one of this column."""
    return 1 << (columns - column)


def _nodes(columns: int) -> Iterator[_Node]:
    """Yield the layers in order: before each join, what it waits for, shallow columns first.

    f_1(z) = conv(z), and f_{c+1}(z) is the join of f_c(f_c(z)) and conv(z). Joins that coincide
    are one join, at every second depth.

    >>> [(node.end, node.column) for node in _nodes(2)]
    [(2, 1), (1, 2), (2, 2), (2, None)]
    """
    if columns == 1:
        yield _Node(1, 1)
        return
    for end in range(2, 2 ** (columns - 1) + 1, 2):
        yield from (_Node(end, c) for c in range(1, columns) if end % _length(c, columns) == 0)
        yield from (_Node(end - 1, columns), _Node(end, columns), _Node(end))


def _sources(node: _Node, columns: int) -> tuple[_Node, ...]:
    """What a layer reads, but X0."""
    if node.column is None:
        ending = (c for c in range(1, columns + 1) if node.end % _length(c, columns) == 0)
        return tuple(_Node(node.end, c) for c in ending)
    start = node.end - _length(node.column, columns)
    if start == 0:
        return ()
    return (_Node(start, columns if start % 2 else None),)


def fractal(spec: FractalBlock) -> Block:
    """Return the block that a fractal's keys declare."""
    columns = f"{spec.columns} column{'s' * (spec.columns > 1)}"
    drop, pool = spec.drop_path, spec.pool
    pooled = f", {pool.kind} pool {pool.kernel}×{pool.kernel}" if pool else ""
    dropped = [f"drop-path {drop.local:g}, global {drop.global_:g}"] if drop else []
    keys: tuple[tuple[str, object], ...] = (
        ("filters", spec.filters),
        ("dropout", spec.dropout),
        *((f"pool.{key}", value) for key, value in (pool or ())),
    )
    words = Words(
        kind=spec.kind,
        title=f"Fractal block, {columns} × {spec.filters} filters{pooled}",
        size=f"{columns} × {spec.filters} filters",
        unit="FractalLayer",
        unit_doc="One convolution or join of a fractal block",
        short=tuple(filter(None, (pooled.removeprefix(", "), *dropped))),
        step="layer",
        staged=False,
        unit_keys=keys,
        shared=f"Fractal block of {columns} (section 2)",
        paper="FractalNet: Larsson et al., ICLR 2017, section 2, https://arxiv.org/abs/1605.07648",
    )
    return build(spec.as_graph(), words)


# ---- random blocks ------------------------------------------------------------------------------


def _draw(rng: Random) -> Document:
    columns = rng.one((1, 2, 2, 3))
    pool = {
        "kind": rng.one(("max", "avg")),
        "kernel": rng.integer(1, 3),
        "stride": rng.integer(1, 2),
        **rng.some(before_join=rng.holds(0.6)),
    }
    drop = rng.some(0.8, local=rng.one((0.0, 0.25, 0.5)), **{"global": rng.one((0.0, 0.5))})
    return {
        "kind": "fractal",
        "columns": columns,
        "filters": rng.integer(1, 3),
        **rng.some(dropout=rng.one((0.0, 0.1, 0.5)), pool=rng.one((None, pool, pool))),
        **(rng.some(drop_path=drop) if columns > 1 else {}),
    }


KIND = Kind(FractalBlock, fractal, fuzzing=Fuzzing(_draw, schedule=("columns", "drop_path")))
