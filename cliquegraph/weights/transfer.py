"""Conversion between formats, tensor by tensor."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.names import tensor_name
from cliquegraph.ir.storage import Array, Holdings, stored
from cliquegraph.ir.types import Param
from cliquegraph.weights.layout import Format, canonical, to_layout
from cliquegraph.weights.source import TensorInfo, TensorSource
from cliquegraph.weights.tensors import NewTensor

COUNTERS = "cliquegraph.num_batches_tracked"
"""Metadata: PyTorch's batch counters that are not 0, by normalization, as JSON."""

_COUNTER = TensorInfo("int64", ())


class Weights(Mapping[str, Array]):
    """The canonical tensors of a network, by name.

    Attributes:
        place: their location, for messages.
    """

    place: str

    @abstractmethod
    def info(self, name: str) -> TensorInfo:
        """Return the type and shape of a tensor, without reading it."""

    def counters(self) -> dict[str, int]:
        """Return PyTorch's batch counters that are not 0, by normalization."""
        return {}


class LoadedWeights(Weights):
    """Tensors in memory."""

    def __init__(self, tensors: Mapping[str, Array], place: str) -> None:
        self._tensors = tensors
        self.place = place

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, name: str) -> Array:
        return self._tensors[name]

    def info(self, name: str) -> TensorInfo:
        """Return the type and shape of a tensor."""
        array = self._tensors[name]
        return TensorInfo(array.dtype.name, array.shape)


class Reading(Weights):
    """The canonical tensors of a source, each read on access.

    Args:
        source: a file or a live model.
        format: its format.
        place: its name in messages.

    Attributes:
        format: the format of the source.

    Raises:
        WeightsError: the tensors of the source do not match the format exactly.
    """

    def __init__(self, source: TensorSource, format: Format, place: str) -> None:
        format.require(source.infos, place)
        self._source = source
        self.format = format
        self._file_names = {param: name for name, param in format.params.items()}
        self._holdings = Holdings(format.graph.params)
        self._shapes = {tensor_name(tensor): tensor.shape for tensor in format.graph.tensors}
        self._last: tuple[Param, Array] | None = None
        self.place = place

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, name: str) -> Array:
        self.info(name)  # rejects pieces of several types
        return self._holdings.tensor(name, self._read)

    def info(self, name: str) -> TensorInfo:
        """Return the type and shape of a canonical tensor, without reading it.

        Raises:
            WeightsError: its pieces are stored in tensors of several types.
        """
        params = self._holdings.params(name)
        files = {self._file_names[param] for param in params}
        dtypes = {self._source.infos[each].dtype: each for each in sorted(files)}
        return TensorInfo(one_type(dtypes, self.place), self._shapes[name])

    def counters(self) -> dict[str, int]:
        """Return the batch counters that are not 0, by normalization."""
        counts = _counters_in(self._source.metadata, self.place)
        for name, slot in self.format.counters.items():
            if name in self._source.infos:
                counts[slot] = self._counter(name)
        return {slot: count for slot, count in sorted(counts.items()) if count}

    def _counter(self, name: str) -> int:
        info = self._source.infos[name]
        if not (info.dtype.startswith(("int", "uint")) and np.prod(info.shape) == 1):
            raise WeightsError(
                f"{self.place}: {name} is {info.dtype} {info.shape}, but must be one integer"
            )
        return int(self._source.read(name).item())

    def _read(self, param: Param) -> Array:
        # The kernels of a bank are read in sequence, so its array is cached.
        if self._last is None or self._last[0] is not param:
            array = self._source.read(self._file_names[param])
            self._last = param, canonical(self.format.layout, param, array)
        return self._last[1]


def _counters_in(metadata: Mapping[str, str], place: str) -> dict[str, int]:
    """The counters in metadata."""
    try:
        counts = json.loads(metadata.get(COUNTERS, "{}"))
    except (ValueError, RecursionError):
        counts = None
    if not isinstance(counts, dict) or not all(map(_is_count, counts.values())):
        raise WeightsError(f"{place}: the metadata entry {COUNTERS} is damaged")
    return counts


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def one_type(by_dtype: Mapping[str, str], place: str) -> str:
    """Return the common type of tensors; ``by_dtype`` names one tensor for each type.

    Raises:
        WeightsError: there are several types.
    """
    if len(by_dtype) > 1:
        listed = " and ".join(f"{name} is {dtype}" for dtype, name in by_dtype.items())
        raise WeightsError(
            f"{place}: {listed}, but one tensor must hold both; cast them to one type"
        )
    return next(iter(by_dtype))


def new_tensors(weights: Weights, to: Format) -> list[NewTensor]:
    """Return the tensors of a file in another format; each is computed when it is written.

    Raises:
        WeightsError: tensors that the format stores as one have several types.
    """
    tensors = []
    for name, param in to.params.items():
        pieces = [piece for pieces in param.holdings for piece in pieces]
        types = {weights.info(n).dtype: n for n in (tensor_name(p.tensor) for p in pieces)}
        info = TensorInfo(one_type(types, weights.place), to.shapes[name])
        tensors.append(NewTensor(name, info, _maker(weights, to, param)))
    counts = weights.counters()
    for name, slot in to.counters.items():
        count = np.asarray(counts.get(slot, 0), np.int64)
        tensors.append(NewTensor(name, _COUNTER, partial(np.copy, count)))
    return tensors


def _maker(weights: Weights, to: Format, param: Param) -> Callable[[], Array]:
    return lambda: to_layout(to.layout, param, stored(param, weights))


def counter_metadata(weights: Weights) -> dict[str, str]:
    """Return metadata with the batch counters, for formats that don't store them as tensors."""
    counters = weights.counters()
    return {COUNTERS: json.dumps(counters)} if counters else {}
