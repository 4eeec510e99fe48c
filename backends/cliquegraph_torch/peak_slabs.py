"""Slabs in a training step: their storages, their gradients, and what is needed to read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from cliquegraph.ir import ops
from cliquegraph.ir.slabs import Slab
from cliquegraph.ir.types import MapType
from cliquegraph_torch.eager import Call
from cliquegraph_torch.heap import Heap, Storage
from cliquegraph_torch.precision import Sizes

_IN_CACHE = 2**18
"""Elements of a part of what a generated file gathers from a slab, which a CPU's cache holds."""

_LEAST_ROWS = 1024
"""Pixels of a part, at least."""


def rows_of_part(pixels: int, channels: int) -> int:
    """Return how many pixels a CPU normalizes or differentiates at once, of so many channels."""
    return min(pixels, max(_LEAST_ROWS, _IN_CACHE // channels))


class Slabs:
    """The slabs of a step."""

    def __init__(self, heap: Heap, sizes: Sizes, live: Collection[Call]) -> None:
        self._heap = heap
        self._sizes = sizes
        self._storages: dict[Slab, tuple[Storage, Storage]] = {}
        self._grads: dict[Slab, tuple[Storage, Storage]] = {}
        self._puts_left = Counter(call.slab for call in live if call.puts)

    # ---- forward -------------------------------------------------------------------------

    def put(self, call: Call, slab: Slab, maps: Storage) -> tuple[Storage, Storage]:
        """Return the storages of a slab and its moments, with a reference for the caller.

        The first maps allocate a slab of all columns, or become it.
        """
        heap, size = self._heap, self._sizes.of(call.reads[0])
        if slab not in self._storages:
            data = heap.hold(maps) if call.adopts else heap.take(self._width(slab))
            moments = heap.take(self._sizes.statistics(2 * slab.channels))
            self._storages[slab] = data, moments
        else:
            data, moments = map(heap.hold, self._storages[slab])
        if len(slab.values) > 1 and not call.channels_last:
            heap.need(size)  # the same maps with channels last
        return data, moments

    def read(self, call: Call, slab: Slab) -> tuple[Storage, list[Storage]]:
        """Return the storages of the output of a call and of what it saves."""
        heap, sizes = self._heap, self._sizes
        saved = [heap.hold(each) for each in self._storages[slab]]
        # The moments; of a unit, also the inverse standard deviation, factor and shift.
        vectors = (2, 1, 1, 1) if call.is_unit else (2, 1)
        saved += [heap.take(sizes.statistics(each * call.gathered)) for each in vectors]
        temporary = self._kernels(call)
        gathered = output = heap.take(self._gathered(call))
        if call.has_layer:
            (saved if call.keeps else temporary).append(gathered)
            output = heap.take(sizes.of(call.output))
        heap.drop(*temporary)
        return output, saved

    def _gathered(self, call: Call) -> int:
        """The bytes of the maps that a call gathers."""
        return _pixels(call, self._sizes) * self._sizes.maps(call.gathered)

    def _width(self, slab: Slab) -> int:
        return sum(map(self._sizes.of, slab.values))

    def _kernels(self, call: Call) -> list[Storage]:
        """The copy of a kernel in the precision of maps."""
        if not isinstance(call.last.op, ops.Conv) or not self._sizes.casts:
            return []
        return [self._heap.take(self._sizes.cast(call.last.operands[0].shape))]

    # ---- backward ------------------------------------------------------------------------

    def backward_read(self, call: Call, slab: Slab, grad: Storage | None) -> Storage | None:
        """Add to the gradient of a slab; return the storage of the gradient of a kernel."""
        heap, sizes = self._heap, self._sizes
        if grad is None:
            return None
        if slab not in self._grads:
            moments = sizes.statistics(2 * slab.channels)
            self._grads[slab] = heap.take(self._width(slab)), heap.take(moments)
        kernel = None
        temporary = []
        is_conv = isinstance(call.last.op, ops.Conv)
        if is_conv:
            size = sizes.cast(call.last.operands[0].shape)
            kernel = heap.take(size)
            temporary = [heap.take(size) for _ in range(sizes.casts)]
        if call.is_unit:
            buffers = 1 if call.keeps else 2  # its gradient; what is read, unless it was kept
            has_products = sizes.casts or not is_conv
            products = self._products(call) if has_products else 0
            heap.need(buffers * self._gathered(call), products)
        heap.drop(*temporary)
        return kernel

    def backward_put(self, call: Call, slab: Slab) -> Storage:
        """Return the storage of the gradient of maps; the last put frees that of the slab."""
        grad = self._heap.take(self._sizes.of(call.reads[0]))
        self._puts_left[slab] -= 1
        if not self._puts_left[slab]:
            self._heap.drop(*self._grads.pop(slab))
        return grad

    def _products(self, call: Call) -> int:
        """The bytes of products with the gradient, of a part of the widest run of columns."""
        assert call.slab is not None  # noqa: S101  # a call that reads a slab
        widest = max(stop - start for start, stop in call.slab.windows(call.maps))
        rows = rows_of_part(_pixels(call, self._sizes), call.gathered)
        return rows * self._sizes.maps(widest)


def _pixels(call: Call, sizes: Sizes) -> int:
    """How many pixels a slab has that a call reads."""
    maps = call.maps[0].type
    assert isinstance(maps, MapType)  # noqa: S101  # what lies in slabs
    return sizes.batch * maps.height * maps.width
