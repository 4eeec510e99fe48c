"""The one model of a block: topology × schedule × edge ops × combine × layer ops × output.

An update of layer j is

    layer ops( combine( edge ops(source) for each source that j reads ) )

Eq. (1) of the paper is one case: BN, ReLU and a kernel on each edge, a sum, no layer ops. Kernels
of edge ops belong to the ordered pair, W(i→j), kernels of layer ops to the layer, V(j); all stages
share both. Normalizations belong to the layer and the stage.

A kind is a function from its keys to one ``Block``. Everything downstream, the step graph, the op
graph, generated code and drawings, works on the block and does not know the kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from typing import Literal

from cliquegraph.blocks.operations import AvgPool as AvgPool
from cliquegraph.blocks.operations import Bias as Bias
from cliquegraph.blocks.operations import Conv as Conv
from cliquegraph.blocks.operations import Dropout as Dropout
from cliquegraph.blocks.operations import DropPath as DropPath
from cliquegraph.blocks.operations import Gate as Gate
from cliquegraph.blocks.operations import GroupNorm as GroupNorm
from cliquegraph.blocks.operations import LocalResponse as LocalResponse
from cliquegraph.blocks.operations import MaxPool as MaxPool
from cliquegraph.blocks.operations import Norm as Norm
from cliquegraph.blocks.operations import Op as Op
from cliquegraph.blocks.operations import Ops as Ops
from cliquegraph.blocks.operations import Relu as Relu
from cliquegraph.blocks.operations import Skip as Skip
from cliquegraph.blocks.operations import Upsample as Upsample
from cliquegraph.blocks.operations import walk as walk

# ---- a block ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """How a layer reads one source.

    Attributes:
        source: a layer from 1, 0 for X0, or the layer itself, whose previous version it then reads.
        ops: the ops of the edge: with a convolution, the source is read through a kernel; without
            any ops, as the value itself.
        every_stage: for X0: read it in every stage, not only in the first.
    """

    source: int
    ops: Ops = ()
    every_stage: bool = False

    @property
    def by_kernel(self) -> bool:
        """Whether the pair has a kernel."""
        return any(isinstance(op, Conv) for op in walk(self.ops))

    @property
    def by_own_kernel(self) -> bool:
        """Whether the pair has a kernel W(i→j), not a part of one over all that the layer reads."""
        return any(isinstance(op, Conv) and op.role == "w" for op in walk(self.ops))

    @cached_property
    def gathered(self) -> tuple[str, ...]:
        """The roles of the normalizations on the edge before any kernel.

        A normalization with such a role covers everything that the layer reads over edges with it.
        """
        before = takewhile(lambda op: not isinstance(op, Conv), walk(self.ops))
        return tuple(op.role for op in before if isinstance(op, Norm))


@dataclass(frozen=True)
class JoinDrop:
    """Drop-path at a join (FractalNet, Larsson et al., ICLR 2017).

    Local: each operand is dropped with probability ``local``; if all are, one drawn uniformly
    remains; the mean is over those that remain. Global: one column, drawn uniformly for the whole
    network; a join that this column does not meet keeps all its operands. Each batch is either
    global, with probability ``global_``, or local.

    Attributes:
        local: the rate of an operand.
        global_: the share of the batches that keep one column of the network; where it is not 0,
            the same in all blocks, and every operand belongs to a column.
        columns: the column that each operand belongs to, in the order of the layer's reads; 1 is
            the shallowest. None: to no column.
    """

    local: float
    global_: float
    columns: tuple[int | None, ...]


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        reads: what it may read, X0 first, then ascending.
        filters: output channels, k; None: those of X0, which the block does not know.
        combine: how the values that it reads are combined.
        ops: applied to the result.
        label: its name in drawings, if the spec gives one.
        join_drop: drop-path of the operands that it combines by their mean.
    """

    reads: tuple[Read, ...]
    filters: int | None
    combine: Literal["sum", "mean"] = "sum"
    ops: Ops = ()
    label: str | None = field(default=None, compare=False)
    join_drop: JoinDrop | None = None

    def __post_init__(self) -> None:
        every = (op for ops in (self.ops, *(read.ops for read in self.reads)) for op in walk(ops))
        if sum(isinstance(op, Skip) and op.drop is not None for op in every) > 1:
            raise ValueError("a layer has one branch with drop-path, or none")


@dataclass(frozen=True)
class Schedule:
    """The order in which layers are updated, and the versions that they read.

    Attributes:
        order: the layers in visiting order, the same in every stage.
        updates: how many of them each stage visits, from stage 1.
        simultaneous: updates read the versions of the stage before (Jacobi), not the newest
            (alternate, Gauss–Seidel; section 3.1).
        initial: ``visit``: stage 1 reads X0 and the layers visited before; ``zero``: X0 alone, and
            a layer that then reads nothing combines zeros of the size of what it reads in stage 2.
    """

    order: tuple[int, ...]
    updates: tuple[int, ...]
    simultaneous: bool = False
    initial: Literal["visit", "zero"] = "visit"

    @property
    def stages(self) -> int:
        """How many stages there are."""
        return len(self.updates)

    @cached_property
    def visit(self) -> dict[int, int]:
        """The position of each layer in visiting order; X0 precedes them, at 0."""
        return {layer: position for position, layer in enumerate((0, *self.order))}


@dataclass(frozen=True)
class Output:
    """An output of a block.

    Attributes:
        layers: the layers whose maps it has, ascending.
        stage: their versions are those at the end of this stage.
        with_input: X0 comes first.
        alone: the maps of a single layer, with nothing to concatenate.
        combine: how the maps become one value: ``concat``, or their ``mean``.
    """

    layers: tuple[int, ...]
    stage: int
    with_input: bool = False
    alone: bool = False
    combine: Literal["concat", "mean"] = "concat"


@dataclass(frozen=True)
class Words:
    """What people and generated code call a block and its parts.

    Attributes:
        kind: the kind's name, as specs write it.
        title: a sentence without its period: ``Clique, 4 layers × 12 filters, 2 stages of …``.
        size: ``4 layers × 12 filters``.
        short: further labels in drawings of the network, lines of a few words.
        note: a line for drawings of the block about what they do not show.
        unit: the class of an update in generated code.
        unit_doc: what one update is.
        variants: other classes of updates, by the tensor role or the op that only they have.
        step: what an update is called as a member: ``update`` or ``layer``.
        staged: whether names and comments of updates carry the stage.
        steps_comment: the comment above the updates of a block, if their names need one.
        unit_keys: the keys that determine a unit, with their values: for comparisons.
        shared: the title without widths, for the class of all blocks that differ only in them;
            with the section of the paper.
        paper: the paper that describes the kind: name, section, URL.
        further_papers: those that describe its options.
        drawn: the pairs of a topology that was drawn at random, for headers and tables.
    """

    kind: str
    title: str
    size: str
    unit: str
    unit_doc: str
    short: tuple[str, ...] = ()
    note: str | None = None
    step: str = "update"
    staged: bool = True
    steps_comment: str | None = None
    unit_keys: tuple[tuple[str, object], ...] = ()
    shared: str | None = None
    paper: str | None = None
    variants: tuple[tuple[str, str], ...] = ()
    further_papers: tuple[str, ...] = ()
    drawn: str | None = None


@dataclass(frozen=True)
class Block:
    """A block as it is declared, whatever its kind.

    Attributes:
        layers: X1 … Xn.
        schedule: when each is updated.
        feature: what readouts read.
        transit: what is passed on to the next block.
        words: names and texts about it.
        stride: the stride of the ops that ``reduce``.
        norms: which normalizations an update uses: its stage's (``per_stage``), from stage 3 on
            those of stage 2 (``second``), or one set for all stages (``shared``).
    """

    layers: tuple[Layer, ...]
    schedule: Schedule
    feature: Output
    transit: Output
    words: Words = field(compare=False)
    stride: int = 1
    norms: Literal["per_stage", "second", "shared"] = "per_stage"

    @property
    def is_complete(self) -> bool:
        """Whether every two layers read each other and stage 2 visits all: the loop closes."""
        n = len(self.layers)
        again = self.schedule.stages > 1 and self.schedule.updates[1] == n
        return again and all(
            {read.source for read in layer.reads} >= set(range(1, n + 1)) - {index}
            for index, layer in enumerate(self.layers, start=1)
        )

    def layer(self, index: int) -> Layer:
        """Return layer ``index``, from 1."""
        return self.layers[index - 1]

    def norm_stage(self, stage: int) -> int | None:
        """Return the stage in the names of the normalizations that an update of ``stage`` uses.

        None where they belong to no stage because the block has one set.
        """
        if self.norms == "shared" or not self.words.staged:
            return None
        return stage if self.norms == "per_stage" else min(stage, 2)

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """Every op on an edge or in a layer, nested ones included."""
        edges = (op for layer in self.layers for read in layer.reads for op in walk(read.ops))
        return (*edges, *(op for layer in self.layers for op in walk(layer.ops)))
