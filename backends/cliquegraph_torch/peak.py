"""The most memory that a training step takes, by playing it call by call.

A step is forward, cross entropy and backward, with no gradients left from before. The model is
that of eager PyTorch:

- The images, the parameters with their running statistics, and each parameter's gradient once
  the backward pass has reached it, stay. The gradient of a slice of a bank becomes one of the
  whole bank.
- A value is held while a call to come reads it, by a block for as long as the block runs if more
  than one step can see it, and by autograd if a gradient is computed from it. What the logits do
  not depend on is let go of with the last value that came of it.
- A ReLU that is written over what it reads has that one's storage.
- Backward, each input of a call gets a new gradient. Those of what stands side by side, in a
  concatenation or in a unit, are parts of one storage, and those of an addition are the same. A
  second gradient of a value is added to the first in place if that is alone in its storage, and
  into a new one if it is not.
- Units redo what they did not keep. Beside the gradient they need a buffer of its size, and a
  third where they took the moments themselves.

Not counted: what kernels allocate inside (a convolution's workspace, copies in another layout),
what an allocator rounds, caches or breaks up, and the optimizer's state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import singledispatch
from itertools import chain, groupby

from cliquegraph.ir import ops
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.types import MaskType, Param, ParamSlice, Part
from cliquegraph_torch.eager import Call, behind_logits
from cliquegraph_torch.precision import Sizes


def peak_bytes(graph: Graph, calls: list[Call], sizes: Sizes) -> int:
    """Return the most bytes in use at any time of a training step.

    Args:
        graph: the network.
        calls: the calls of its training pass (``calls_of``).
        sizes: of what they make.
    """
    step = _Step(graph, calls, sizes)
    step.forward()
    step.backward()
    return step.heap.peak


class _Storage:
    """Bytes, and how many hold them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.holders = 1


class _Heap:
    """Bytes in use, and the most that ever were."""

    def __init__(self) -> None:
        self.used = 0
        self.peak = 0

    def take(self, size: int) -> _Storage:
        self.used += size
        self.peak = max(self.peak, self.used)
        return _Storage(size)

    def hold(self, storage: _Storage) -> _Storage:
        storage.holders += 1
        return storage

    def drop(self, *storages: _Storage) -> None:
        for storage in storages:
            storage.holders -= 1
            if not storage.holders:
                self.used -= storage.size


class _Step:
    """A training step under way: what holds values, gradients and casts of parameters."""

    def __init__(self, graph: Graph, calls: list[Call], sizes: Sizes) -> None:
        self.heap = _Heap()
        self._graph = graph
        self._calls = calls
        self._sizes = sizes
        self._live = behind_logits(graph, calls)
        self._makers = {call.output: call for call in calls}
        self._readers: dict[Value, list[Call]] = {}
        for call in calls:
            for value in call.reads:
                self._readers.setdefault(value, []).append(call)
        self._named: dict[Value, _Storage] = {}
        self._casts: dict[Param, _Storage] = {}
        self._kept: dict[Call, list[_Storage]] = {}
        self._grads: dict[Value, _Storage] = {}
        self._param_grads: dict[Param, _Storage] = {}

    # ---- forward -------------------------------------------------------------------------

    def forward(self) -> None:
        """Run every call; let go of what neither a call to come nor autograd needs."""
        for param in self._graph.params:
            self.heap.take(self._sizes.storage(param))
        self._take_images()
        to_come = Counter(value for call in self._calls for value in call.reads)
        returned, inside = self._returned(), self._inside_steps()
        for section, group in groupby(self._calls, key=lambda call: call.origin.section):
            in_block = section.part is Part.BLOCK
            seen: list[Value] = []
            for call in group:
                if in_block and call.origin.layer is None:  # the network's, with what was returned
                    self._forget(value for value in seen if not to_come[value])
                self._run(call)
                to_come.subtract(call.reads)
                now = [v for v in (*call.reads, call.output) if v not in returned]
                self._forget(v for v in now if not to_come[v] and (v in inside or not in_block))
                seen += now
            self._forget(value for value in seen if not to_come[value])
        self._forget(returned)
        self.heap.drop(*self._casts.values())

    def _take_images(self) -> None:
        image = self._graph.input
        self._named[image] = self.heap.take(self._sizes.of(image))
        if self._sizes.casts:  # the given ones, beside what they are cast to
            self.heap.take(self._sizes.parameter((self._sizes.batch, image.type.elements)))
        else:
            self.heap.hold(self._named[image])  # by whoever gave them

    def _returned(self) -> set[Value]:
        """The values that the network has names for until it returns."""
        lists = (node.inputs for node in self._graph.unread_features)
        return {self._graph.logits, *chain.from_iterable(lists)}

    def _inside_steps(self) -> set[Value]:
        """The values that no other step reads; a block has names for those that one does."""
        return {
            value
            for value, maker in self._makers.items()
            if all(call.origin == maker.origin for call in self._readers.get(value, ()))
        }

    def _run(self, call: Call) -> None:
        """Make what the call returns; hold what it keeps."""
        made: dict[object, _Storage] = {value: self._named[value] for value in call.reads}
        passing = list(self._cast_weights(call, made))
        kept = call.kept(self._sizes)
        buffers = dict(kept)
        if call.joined is not None:
            buffers[call.joined] = self._sizes.of(call.joined)
        for key, size in buffers.items():
            if key not in made and key is not call.output:
                made[key] = self.heap.take(size)
                passing.append(made[key])
        made[call.output] = self._named[call.output] = self._take_output(call)
        self._kept[call] = [self.heap.hold(made[key]) for key in kept]
        self.heap.drop(*passing)

    def _take_output(self, call: Call) -> _Storage:
        """Storage for what a call returns: its own, or that of what it is written over."""
        if call.in_place:
            (read,) = call.reads
            return self.heap.hold(self._named[read])
        return self.heap.take(self._sizes.of(call.output))

    def _cast_weights(self, call: Call, made: dict[object, _Storage]) -> Iterator[_Storage]:
        """Cast the weight as autocast does, which has whole ones for the next to read them."""
        for key, size in call.cast_weights(self._sizes):
            if not isinstance(key, Param):
                made[key] = self.heap.take(size)
                yield made[key]
            else:
                if key not in self._casts:
                    self._casts[key] = self.heap.take(size)
                made[key] = self._casts[key]

    def _forget(self, values: Iterator[Value] | set[Value]) -> None:
        for value in values:
            if value in self._named:
                self.heap.drop(self._named.pop(value))
                self._let_go(value)

    def _let_go(self, value: Value) -> None:
        """Drop what a call kept if the logits do not depend on it and nothing has its output."""
        call = self._makers.get(value)
        if call is None or call in self._live or call not in self._kept or value in self._named:
            return
        if any(reader in self._kept for reader in self._readers.get(value, ())):
            return
        self.heap.drop(*self._kept.pop(call))
        for read in call.reads:
            self._let_go(read)

    # ---- backward ------------------------------------------------------------------------

    def backward(self) -> None:
        """Run the gradient of every call that the logits depend on, last first."""
        logits = self._graph.logits
        log_softmax = self.heap.take(self._sizes.of(logits))
        self._grads[logits] = self.heap.take(self._sizes.of(logits))
        self.heap.drop(log_softmax)
        for call in reversed(self._calls):
            if call in self._live:
                self._run_backward(call)

    def _run_backward(self, call: Call) -> None:
        """Make the gradients of what the call reads, and of its parameters."""
        grad = self._grads.pop(call.output)
        workspace = self.heap.take(self._workspace(call))
        param_grads = [
            (operand, self.heap.take(self._param_grad_size(node, operand)))
            for node in call.nodes
            for operand in node.operands
            if operand.param.field.trainable
        ]
        made = list(self._gradients(call, grad))
        self.heap.drop(grad, workspace, *self._kept.pop(call))
        for value, storage in made:
            self._accumulate(value, storage)
        for operand, storage in param_grads:
            self._learn(operand, storage)

    def _workspace(self, call: Call) -> int:
        """The bytes that a gradient takes beside what it returns."""
        if call.joined is not None:
            return self._sizes.of(call.joined) * (2 if call.own_moments else 1)
        return workspace(call.last.op, call.last, self._sizes)

    def _param_grad_size(self, node: Node, operand: ParamSlice) -> int:
        """The bytes of a parameter's gradient as a call makes it."""
        if self._sizes.casts and isinstance(node.op, ops.Conv | ops.Linear):
            return self._sizes.cast(operand.shape)
        return self._sizes.parameter(operand.shape)

    def _gradients(self, call: Call, grad: _Storage) -> Iterator[tuple[Value, _Storage]]:
        """The gradients of what a call reads; images have none."""
        beside: _Storage | None = None
        if call.joined is not None:
            beside = self.heap.take(self._sizes.of(call.joined))
        elif isinstance(call.last.op, ops.Concat | ops.Add):
            beside = self.heap.hold(grad)
        for value in call.reads:
            if value is self._graph.input or isinstance(value.type, MaskType):
                continue
            if beside is None or self._sizes.is_fixed(value):
                yield value, self.heap.take(self._sizes.of(value))
            else:
                yield value, self.heap.hold(beside)
        if beside is not None:
            self.heap.drop(beside)

    def _accumulate(self, value: Value, storage: _Storage) -> None:
        """Add to the gradient of a value."""
        old = self._grads.get(value)
        if old is None:
            self._grads[value] = storage
        elif old.holders == 1 and old.size == self._sizes.of(value):
            self.heap.drop(storage)
        else:
            self._grads[value] = self.heap.take(self._sizes.of(value))
            self.heap.drop(old, storage)

    def _learn(self, operand: ParamSlice, storage: _Storage) -> None:
        """Add to the gradient of a parameter, as large as the parameter and as precise."""
        param = operand.param
        for size in (self._sizes.parameter(operand.shape), self._sizes.storage(param)):
            if storage.size != size:
                part, storage = storage, self.heap.take(size)
                self.heap.drop(part)
        if param in self._param_grads:
            self.heap.drop(storage)
        else:
            self._param_grads[param] = storage


@singledispatch
def workspace(op: ops.Op, node: Node, sizes: Sizes) -> int:
    """Return the bytes that the gradient of an op takes beside what it returns."""
    return 0


@workspace.register
def _(op: ops.ScaleChannels, node: Node, sizes: Sizes) -> int:
    return sizes.of(node.output)  # the product whose sum is the vector's gradient


@workspace.register
def _(op: ops.Moments, node: Node, sizes: Sizes) -> int:
    if not sizes.casts:
        return 0
    # In the precision of the moments before it is cast.
    return sizes.statistics(sizes.batch * node.inputs[0].type.elements)
