"""The one model of a block: topology × schedule × edge ops × combine × layer ops × output.

An update of layer j is

    layer ops( combine( edge ops(source) for each source that j reads ) )

Eq. (1) of the paper is one case: BN, ReLU and a kernel on each edge, a sum, no layer ops. Kernels
of edge ops belong to the ordered pair, W(i→j), kernels of layer ops to the layer, V(j); all stages
share both. Normalizations belong to the layer and the stage.

A kind is a function from its keys to one ``Block``. All that comes after it, the step graph, the
op graph, generated code and drawings, works on the block and knows no kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import dropwhile, takewhile
from typing import Literal

# ---- what stands on edges and in layers -----------------------------------------------------


@dataclass(frozen=True)
class Norm:
    """Batch normalization, of the layer and the stage.

    Attributes:
        role: its name among the layer's: ``norm``, ``mid_norm``.
        zero: its scale starts at 0, not 1.
    """

    role: str = "norm"
    zero: bool = False


@dataclass(frozen=True)
class Relu:
    """max(x, 0)."""


@dataclass(frozen=True)
class Conv:
    """Convolution, padded by half of its kernel, without a bias.

    Attributes:
        kernel: size.
        filters: channels that it writes.
        role: on an edge, ``w`` is a kernel for each pair, W(i→j); any other role is one kernel of
            the layer over all that it reads. In a layer, ``v`` is the layer's kernel V(j) and
            belongs to the block, for stages to share; any other role is the update's own.
        index: p from 1 where a layer has several kernels V(j): V(j, p).
        stride: of a convolution that does not take the block's.
        reduce: takes the block's stride, in updates that read X0.
        fan_out: starts with variance 2 / fan-out, not fan-in.
    """

    kernel: int
    filters: int
    role: str = "w"
    index: int | None = None
    stride: int = 1
    reduce: bool = False
    fan_out: bool = False


@dataclass(frozen=True)
class Dropout:
    """In training, each element is zeroed at ``rate``, the others scaled by 1 / (1 - rate)."""

    rate: float


@dataclass(frozen=True)
class DropPath:
    """A branch that is left out at random (Huang et al., ECCV 2016).

    Attributes:
        last: the rate of the last unit of the network; the others' are in proportion.
        per: one draw for the batch, or for each image. A branch that is left out of a whole batch
            moves no running statistics; one that is left out of some images moves them as ever,
            by the whole batch.
        scale: where the branch is scaled: in ``training`` by 1 / (1 - rate), or in ``evaluation``
            by 1 - rate.
        unit, units: its number l among the L of the network, which ``blocks_of`` sets.
    """

    last: float
    per: Literal["batch", "image"] = "batch"
    scale: Literal["training", "evaluation"] = "evaluation"
    unit: int = 1
    units: int = 1

    @property
    def rate(self) -> float:
        """How often it is left out: l / L of the last unit's rate."""
        return float(Fraction(str(self.last)) * self.unit / self.units)


@dataclass(frozen=True)
class Skip:
    """x ↦ branch(x) + s(x).

    s is the identity where channels and sizes agree; else a ``projection`` (1×1 convolution of
    the stride that makes sizes agree, BN), or ``pad``: an average pool of that stride, and maps of
    zeros behind.
    """

    branch: Ops
    shortcut: Literal["projection", "pad"] = "projection"
    drop: DropPath | None = None


Op = Norm | Relu | Conv | Dropout | Skip
Ops = tuple[Op, ...]


def walk(ops: Ops) -> Iterator[Op]:
    """Yield ops and those within them, in order."""
    for op in ops:
        yield op
        if isinstance(op, Skip):
            yield from walk(op.branch)


# ---- a block ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """How a layer reads one source.

    Attributes:
        source: a layer from 1, 0 for X0, or the layer itself, whose last version it then reads.
        ops: what stands on the edge: with a convolution it is read by a kernel; without any ops,
            as the value itself.
        every_stage: of X0: read in every stage, not in the first alone.
    """

    source: int
    ops: Ops = ()
    every_stage: bool = False

    @property
    def by_kernel(self) -> bool:
        """Whether the pair has a kernel."""
        return any(isinstance(op, Conv) for op in walk(self.ops))

    @cached_property
    def gathered(self) -> tuple[str, ...]:
        """The roles of the normalizations of what is read, before any kernel.

        One of such a role lies over all that the layer reads by edges that have it.
        """
        before = takewhile(lambda op: not isinstance(op, Conv), walk(self.ops))
        return tuple(op.role for op in before if isinstance(op, Norm))

    @property
    def has_own_norms(self) -> bool:
        """Whether the edge normalizes what its kernel writes, which nothing else reads."""
        behind = dropwhile(lambda op: not isinstance(op, Conv), walk(self.ops))
        return any(isinstance(op, Norm) for op in behind)


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        reads: what it may read, X0 first, then ascending.
        filters: channels that it writes, k.
        combine: how what it reads is put together.
        ops: applied to that.
    """

    reads: tuple[Read, ...]
    filters: int
    combine: Literal["sum", "mean"] = "sum"
    ops: Ops = ()

    def __post_init__(self) -> None:
        every = (op for ops in (self.ops, *(read.ops for read in self.reads)) for op in walk(ops))
        if sum(isinstance(op, Skip) and op.drop is not None for op in every) > 1:
            raise ValueError("a layer has one branch with drop-path, or none")


@dataclass(frozen=True)
class Schedule:
    """In which order layers are updated, and which versions they read.

    Attributes:
        order: the layers in the order of their visits, in every stage.
        updates: how many of them each stage visits, from stage 1.
        simultaneous: updates read the versions of the stage before (Jacobi), not the newest
            (alternate, Gauss–Seidel; section 3.1).
        initial: ``visit``: stage 1 reads X0 and what was visited before; ``zero``: X0 alone.
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
        """The position of each layer in the order of visits; X0 stands before them, at 0."""
        return {layer: position for position, layer in enumerate((0, *self.order))}


@dataclass(frozen=True)
class Output:
    """What leaves a block.

    Attributes:
        layers: whose maps, ascending.
        stage: as of the end of which stage.
        with_input: X0 too, in front.
        alone: the maps of one layer as they are, with nothing to concatenate.
    """

    layers: tuple[int, ...]
    stage: int
    with_input: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Words:
    """What people and generated code call a block and its parts.

    Attributes:
        kind: the kind's name, as a spec says it.
        title: a sentence without its end: ``Clique, 4 layers × 12 filters, 2 stages of …``.
        size: ``4 layers × 12 filters``.
        short: what else a drawing of the network says, lines of a few words.
        note: a line for drawings of the block about what they do not show.
        unit: the class of an update in generated code.
        unit_doc: what one update is.
        variants: other classes of updates, by what only theirs have: a role of tensors or an op.
        step: what an update is called as a member: ``update`` or ``layer``.
        staged: whether names and comments of updates carry the stage.
        steps_comment: what stands over the updates of a block, if their names do not say it.
        unit_keys: the keys that make a unit what it is, with their values: for comparisons.
        shared: the title without widths, for the class of all blocks that differ in them alone;
            with the section of the paper.
        paper: what describes the kind: name, section, address.
        further_papers: what describes its options.
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


@dataclass(frozen=True)
class Block:
    """A block as it is declared, whatever its kind.

    Attributes:
        layers: X1 … Xn.
        schedule: when each is updated.
        feature: what readouts read.
        transit: what goes on to the next block.
        words: what it is called.
        stride: of the ops that ``reduce``.
        norms: whose normalizations an update uses: its stage's (``per_stage``), or from stage 3 on
            stage 2's (``second``), or one set for all stages (``shared``).
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
        """Whether every two layers read each other, and all are visited again: the loop closes."""
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

        None where they belong to no stage: the block has one set.
        """
        if self.norms == "shared" or not self.words.staged:
            return None
        return stage if self.norms == "per_stage" else min(stage, 2)

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """Every op on an edge or in a layer, those within others too."""
        edges = (op for layer in self.layers for read in layer.reads for op in walk(read.ops))
        return (*edges, *(op for layer in self.layers for op in walk(layer.ops)))
