"""What no ``Block`` can be, in words for the author of a kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cliquegraph.blocks.model import (
    Bias,
    Block,
    Conv,
    Gate,
    GroupNorm,
    Layer,
    Norm,
    Ops,
    Output,
    walk,
)


def impossible_in(block: Block) -> Iterator[str]:
    """Yield what is wrong with a block; nothing if it can be built.

    Shapes are not looked at: the lowering does.
    """
    faults = list(_of_schedule(block))
    if not faults:
        faults += [*_of_outputs(block), *_of_reads(block), *_of_ops(block)]
    yield from faults


def _of_schedule(block: Block) -> Iterator[str]:
    n, schedule = len(block.layers), block.schedule
    if sorted(schedule.order) != list(range(1, n + 1)):
        yield f"its order {schedule.order} is no order of layers 1 to {n}"
    *all_but_last, last = schedule.updates or (0,)
    if any(count != n for count in all_but_last) or not (0 <= last <= n):
        yield f"its updates {schedule.updates} leave out layers before the last stage"
    elif schedule.stages == 1 and last != n:
        yield "stage 1 leaves out layers"
    if schedule.stages > 1 and not block.words.staged:
        yield f"it has {schedule.stages} stages, but its words are not staged"


def _of_outputs(block: Block) -> Iterator[str]:
    for name, output in (("feature", block.feature), ("transit", block.transit)):
        yield from (f"its {name} {fault}" for fault in _of_output(block, output))


def _of_output(block: Block, output: Output) -> Iterator[str]:
    if not output.layers or not set(output.layers) <= set(range(1, len(block.layers) + 1)):
        yield f"names layers {output.layers} that the block does not have"
    if not 1 <= output.stage <= block.schedule.stages:
        yield f"refers to stage {output.stage}, which does not exist"
    if output.alone and (len(output.layers) != 1 or output.with_input):
        yield "is marked `alone` but has several values"


def _of_reads(block: Block) -> Iterator[str]:
    n, schedule = len(block.layers), block.schedule
    again = schedule.order[: schedule.updates[1]] if schedule.stages > 1 else ()
    for j, layer in enumerate(block.layers, start=1):
        sources = [read.source for read in layer.reads]
        if sources != sorted(set(sources)) or not set(sources) <= set(range(n + 1)):
            yield f"X{j} reads {sources}, which are no layers in ascending order"
            continue
        before = {i for i in sources if schedule.visit[i] < schedule.visit[j]}
        from_zeros = schedule.initial == "zero" and j in again
        if not (before & {0} if schedule.initial == "zero" else before) and not from_zeros:
            yield f"X{j} reads nothing in stage 1: let it read X0, or visit it later"
        enters = any(read.source == 0 and read.every_stage for read in layer.reads)
        if j in again and not enters and not set(sources) - {0}:
            yield f"X{j} reads nothing in stage 2: let it read itself, or X0 in every stage"
        if j in sources and j not in again:
            yield f"no stage reads the last version of X{j} for itself"


def _of_ops(block: Block) -> Iterator[str]:
    for j, layer in enumerate(block.layers, start=1):
        own = Counter(_tensors(layer.ops))
        twice = [name for name, count in own.items() if count > 1]
        for read in layer.reads:
            edge = Counter(_tensors(read.ops, on_edge=True))
            twice += [name for name, count in edge.items() if count > 1 or name in own]
        for role, _ in dict.fromkeys(twice):
            yield f"X{j} has two ops of the role {role}: give each its own role or index"
        yield from (f"X{j} {fault}" for fault in _of_join(layer))
        yield from (f"X{j} {fault}" for fault in _of_kernels(block, layer))


def _of_join(layer: Layer) -> Iterator[str]:
    if (drop := layer.join_drop) is None:
        return
    if layer.combine != "mean":
        yield "drops operands, but does not combine them by their mean"
    if len(drop.columns) != len(layer.reads):
        yield f"reads {len(layer.reads)} sources, but {len(drop.columns)} have columns"
    if not 0 <= drop.local < 1 or not 0 <= drop.global_ <= 1:
        yield f"drops operands at rates that can't be: {drop.local:g}, global {drop.global_:g}"
    if drop.global_ and any(column is None or column < 1 for column in drop.columns):
        yield "drops all columns but one, and has an operand of no column, from 1"
    convs = [op for read in layer.reads for op in walk(read.ops) if isinstance(op, Conv)]
    if any(op.role != "w" for op in convs):
        yield "drops operands that have one kernel together"


def _of_kernels(block: Block, layer: Layer) -> Iterator[str]:
    edges = [op for read in layer.reads for op in walk(read.ops) if isinstance(op, Conv)]
    own = [op for op in walk(layer.ops) if isinstance(op, Conv)]
    if any(op.reduce and op.stride != 1 for op in (*edges, *own)):
        yield "has a convolution of a stride of its own that takes the block's too"
    shared = [*(op for op in edges if op.role == "w")]
    shared += [op for op in own if op.role == "v" and (block.words.staged or op.index is None)]
    if any(op.fan_out for op in shared):
        yield "starts kernels that updates share by their fan-out: these start by their fan-in"
    if any(op.filters is None and not op.depthwise for op in (*edges, *own)):
        yield "has a convolution without filters that is not depthwise"
    if any(op.role != "w" and (op.bias or op.depthwise) for op in edges):
        yield "has one kernel over all that it reads, with a bias or depthwise"
    if any(op.role != "w" for op in edges) and len({read.ops for read in layer.reads}) > 1:
        yield "has one kernel over all that it reads, and edges that differ"


def _tensors(ops: Ops, *, on_edge: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the role of each op with tensors, and whether these belong to the layer."""
    behind_kernel = False
    for op in walk(ops):
        match op:
            case Conv(role=role, index=index):
                behind_kernel = True
                name = role if index is None else f"{role}_{index}"
                yield name, not (on_edge and role == "w")
            case Norm(role=role):
                yield role, not (on_edge and behind_kernel)
            case GroupNorm(role=role) | Bias(role=role) | Gate(role=role):
                yield role, not on_edge
