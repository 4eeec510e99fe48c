"""The peak memory of a training step, by simulating it call by call.

A step is forward, cross entropy and backward, without previous gradients. The model is that of
eager PyTorch:

- The images, the parameters with their running statistics, and each parameter's gradient once the
  backward pass has reached it, stay allocated. The gradient of a slice of a bank becomes one of
  the whole bank.
- A value is held while a later call reads it, by a block for as long as the block runs if more than
  one update can read it, and by autograd if a gradient is computed from it. A value that the logits
  do not depend on is freed with the last value computed from it.
- A ReLU that overwrites its input has the storage of that.
- In backward, each input of a call gets a new gradient. Those of concatenated inputs, in a
  concatenation or in a unit, are parts of one storage, and those of an addition share one. A second
  gradient of a value is added to the first in place if that is alone in its storage, and otherwise
  into a new one. That of ``GlobalMean`` is one value for each map, expanded.
- The first maps that are put into a slab allocate all of it; those that are put are freed unless
  something else holds them. Its last reader allocates one gradient of all of it, which lives until
  the maps that were put first have theirs.
- What reads a slab recomputes what it did not save.
- Other units recompute what they did not save. Besides the gradient they need a buffer of its size,
  and a third if they computed the moments themselves.

Not counted: what kernels allocate inside (a convolution's workspace, copies in another layout), an
allocator's rounding, caches and fragmentation, and the optimizer's state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import singledispatch
from itertools import chain, groupby

from cliquegraph.ir import ops
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.nodes import Node, Value
from cliquegraph.ir.slabs import Slab
from cliquegraph.ir.types import MaskType, Param, ParamSlice, Part, WeightsType
from cliquegraph_torch.eager import Call, behind_logits, padded_elements
from cliquegraph_torch.heap import Heap, Storage
from cliquegraph_torch.peak_slabs import Slabs
from cliquegraph_torch.precision import Sizes


def peak_bytes(graph: Graph, calls: list[Call], sizes: Sizes) -> int:
    """Return the most bytes in use at any time of a training step.

    Args:
        graph: the network.
        calls: the calls of its training pass (``calls_of``).
        sizes: the sizes of values.
    """
    step = _Step(graph, calls, sizes)
    step.forward()
    step.backward()
    return step.heap.peak


class _Step:
    """The state of a training step: the storages of values, gradients and casts of parameters."""

    def __init__(self, graph: Graph, calls: list[Call], sizes: Sizes) -> None:
        self.heap = Heap()
        self._graph = graph
        self._calls = calls
        self._sizes = sizes
        self._live = behind_logits(graph, calls)
        self._slabs = Slabs(self.heap, sizes, self._live)
        self._makers = {call.output: call for call in calls}
        self._readers: dict[Value, list[Call]] = {}
        for call in calls:
            for value in call.reads:
                self._readers.setdefault(value, []).append(call)
        self._named: dict[Value, Storage] = {}
        self._casts: dict[Param, Storage] = {}
        self._saved: dict[Call, list[Storage]] = {}
        self._grads: dict[Value, Storage] = {}
        self._param_grads: dict[Param, Storage] = {}

    # ---- forward -------------------------------------------------------------------------

    def forward(self) -> None:
        """Run every call; free values that neither later calls nor autograd need."""
        for param in self._graph.params:
            self.heap.take(self._sizes.storage(param))
        self._take_images()
        reads_left = Counter(value for call in self._calls for value in call.reads)
        returned, inside = self._returned(), self._inside_steps()
        for section, group in groupby(self._calls, key=lambda call: call.origin.section):
            in_block = section.part is Part.BLOCK
            seen: list[Value] = []
            for call in group:
                if in_block and call.origin.layer is None:  # in the network, after the block
                    self._forget(value for value in seen if not reads_left[value])
                self._run(call)
                reads_left.subtract(call.reads)
                now = [v for v in (*call.reads, call.output) if v not in returned]
                self._forget(v for v in now if not reads_left[v] and (v in inside or not in_block))
                seen += now
            self._forget(value for value in seen if not reads_left[value])
        self._forget(returned)
        self.heap.drop(*self._casts.values())

    def _take_images(self) -> None:
        image = self._graph.input
        self._named[image] = self.heap.take(self._sizes.of(image))
        if self._sizes.casts:  # the original images, besides the cast ones
            self.heap.take(self._sizes.parameter((self._sizes.batch, image.type.elements)))
        else:
            self.heap.hold(self._named[image])  # by the caller

    def _returned(self) -> set[Value]:
        """The values that the network has names for until it returns."""
        lists = (node.inputs for node in self._graph.unread_features)
        copied = (call.output for call in self._calls if call.slab and not call.is_unit)
        unread = (value for value in copied if value not in self._readers)
        return {self._graph.logits, *chain.from_iterable(lists), *unread}

    def _inside_steps(self) -> set[Value]:
        """The values that no other update reads; a block has names for the others."""
        return {
            value
            for value, maker in self._makers.items()
            if all(call.origin == maker.origin for call in self._readers.get(value, ()))
        }

    def _run(self, call: Call) -> None:
        """Allocate the output of a call; hold what it saves for backward."""
        if call.slab is not None:
            self._run_in_slab(call, call.slab)
            return
        storages: dict[object, Storage] = {value: self._named[value] for value in call.reads}
        temporary = list(self._cast_weights(call, storages))
        saved = call.saved(self._sizes)
        buffers = dict(saved)
        if call.joined is not None:
            buffers[call.joined] = self._sizes.of(call.joined)
        for key, size in buffers.items():
            if key not in storages and key is not call.output:
                storages[key] = self.heap.take(size)
                temporary.append(storages[key])
        storages[call.output] = self._named[call.output] = self._take_output(call)
        self._saved[call] = [self.heap.hold(storages[key]) for key in saved]
        self.heap.drop(*temporary)

    def _run_in_slab(self, call: Call, slab: Slab) -> None:
        """Put maps into a slab, which has them from then on, or read some."""
        if not call.puts:
            self._named[call.output], self._saved[call] = self._slabs.read(call, slab)
            return
        (value,) = call.reads
        storages = self._slabs.put(call, slab, self._named[value])
        self._saved[call] = [self.heap.hold(each) for each in storages]
        self.heap.drop(self._named[value])
        self._named[value], self._named[call.output] = storages

    def _take_output(self, call: Call) -> Storage:
        """Storage for the output of a call: new, or that of the input that it overwrites."""
        if call.in_place:
            (read,) = call.reads
            return self.heap.hold(self._named[read])
        return self.heap.take(self._sizes.of(call.output))

    def _cast_weights(self, call: Call, storages: dict[object, Storage]) -> Iterator[Storage]:
        """Cast the weight as autocast does, which caches casts of whole parameters."""
        for key, size in call.cast_weights(self._sizes):
            if not isinstance(key, Param):
                storages[key] = self.heap.take(size)
                yield storages[key]
            else:
                if key not in self._casts:
                    self._casts[key] = self.heap.take(size)
                storages[key] = self._casts[key]

    def _forget(self, values: Iterator[Value] | set[Value]) -> None:
        for value in values:
            if value in self._named:
                self.heap.drop(self._named.pop(value))
                self._release(value)

    def _release(self, value: Value) -> None:
        """Free what a call saved if the logits do not depend on it and its output is freed."""
        call = self._makers.get(value)
        if call is None or call in self._live or call not in self._saved or value in self._named:
            return
        if any(reader in self._saved for reader in self._readers.get(value, ())):
            return
        self.heap.drop(*self._saved.pop(call))
        for read in call.reads:
            self._release(read)

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
        """Allocate the gradients of the inputs of a call, and of its parameters."""
        if call.slab is not None:
            self._run_backward_in_slab(call, call.slab)
            return
        grad = self._grads.pop(call.output)
        workspace = self.heap.take(self._workspace(call))
        param_grads = [
            (operand, self.heap.take(self._param_grad_size(node, operand)))
            for node in call.nodes
            for operand in node.operands
            if operand.param.field.trainable
        ]
        gradients = list(self._gradients(call, grad))
        self.heap.drop(grad, workspace, *self._saved.pop(call))
        for value, storage in gradients:
            self._accumulate(value, storage)
        for operand, storage in param_grads:
            self._accumulate_param(operand, storage)

    def _run_backward_in_slab(self, call: Call, slab: Slab) -> None:
        """Add to the gradient of a slab, or take that of maps out of it."""
        if call.puts:
            storage = self._slabs.backward_put(call, slab)
            self.heap.drop(*self._saved.pop(call))
            self._accumulate(call.reads[0], storage)
            return
        grad = self._grads.pop(call.output, None)
        kernel = self._slabs.backward_read(call, slab, grad)
        self.heap.drop(*([] if grad is None else [grad]), *self._saved.pop(call))
        for node in call.nodes if grad is not None else ():
            for operand in node.operands:
                if isinstance(node.op, ops.Conv) and kernel is not None:
                    self._accumulate_param(operand, kernel)
                elif operand.param.field.trainable:
                    size = self._sizes.parameter(operand.shape)
                    self._accumulate_param(operand, self.heap.take(size))

    def _workspace(self, call: Call) -> int:
        """The bytes that a gradient needs besides its results."""
        if call.joined is not None:
            return self._sizes.of(call.joined) * (2 if call.own_moments else 1)
        if call.recomputed:  # maps of the shape that was saved
            return self._sizes.of(call.reads[0])
        return workspace(call.last.op, call.last, self._sizes)

    def _param_grad_size(self, node: Node, operand: ParamSlice) -> int:
        """The bytes of a parameter's gradient as computed by a call."""
        if self._sizes.casts and isinstance(node.op, ops.Conv | ops.Linear):
            return self._sizes.cast(operand.shape)
        return self._sizes.parameter(operand.shape)

    def _gradients(self, call: Call, grad: Storage) -> Iterator[tuple[Value, Storage]]:
        """The gradients of the inputs of a call; images have none."""
        shared: Storage | None = None
        if call.joined is not None:
            shared = self.heap.take(self._sizes.of(call.joined))
        elif isinstance(call.last.op, ops.Concat | ops.Stack | ops.Add):
            shared = self.heap.hold(grad)
        for value in call.reads:
            if value is self._graph.input or isinstance(value.type, MaskType | WeightsType):
                continue
            if value in self._makers and isinstance(self._makers[value].last.op, ops.Zeros):
                continue
            if isinstance(call.last.op, ops.GlobalMean):
                yield value, self.heap.take(self._sizes.of(call.output))
            elif shared is None or self._sizes.is_fixed(value):
                yield value, self.heap.take(self._sizes.of(value))
            else:
                yield value, self.heap.hold(shared)
        if shared is not None:
            self.heap.drop(shared)

    def _accumulate(self, value: Value, storage: Storage) -> None:
        """Add to the gradient of a value."""
        old = self._grads.get(value)
        if old is None:
            self._grads[value] = storage
        elif old.holders == 1 and old.size == self._sizes.of(value):
            self.heap.drop(storage)
        else:
            self._grads[value] = self.heap.take(self._sizes.of(value))
            self.heap.drop(old, storage)

    def _accumulate_param(self, operand: ParamSlice, storage: Storage) -> None:
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
    """Return the bytes that the gradient of an op needs besides its results."""
    return 0


@workspace.register
def _(op: ops.ScaleChannels, node: Node, sizes: Sizes) -> int:
    return sizes.of(node.output)  # the product whose sum is the vector's gradient


@workspace.register
def _(op: ops.Gate, node: Node, sizes: Sizes) -> int:
    return sizes.of(node.output)  # the product whose sum is the gradient of the number


@workspace.register
def _(op: ops.LocalResponse, node: Node, sizes: Sizes) -> int:
    # The gradients of the divisor and of the padded squares.
    elements = node.output.type.elements + padded_elements(op, node)
    return sizes.statistics(sizes.batch * elements)


@workspace.register
def _(op: ops.Moments, node: Node, sizes: Sizes) -> int:
    if not sizes.casts:
        return 0
    # In the precision of the moments before it is cast.
    return sizes.statistics(sizes.batch * node.inputs[0].type.elements)
