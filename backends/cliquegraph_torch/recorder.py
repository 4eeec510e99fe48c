"""Records the operators that PyTorch executes, below autograd, as steps of a program."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph.proof.program import Apply, Context, Law, Step
from cliquegraph.semantics.arithmetic import Array, rational
from cliquegraph_torch.aten import RULES, statistics_moved

_T = TypeVar("_T")

_MOST_VALUES = 16  # of a constant in attributes; of more, their hash
_WHERE = frozenset({"device", "layout", "pin_memory", "non_blocking", "memory_format", "generator"})
_ATEN = torch.ops.aten
_LOOKS = frozenset(
    {_ATEN._local_scalar_dense.default, _ATEN.equal.default, _ATEN.is_nonzero.default}
)
_CONVERTS = frozenset(
    {_ATEN._to_copy.default, _ATEN.copy_.default, _ATEN.sum.default, _ATEN.sum.dim_IntList}
)
_DRAWS = frozenset({_ATEN.bernoulli_.float})
_RESHAPES = frozenset(
    {_ATEN.view.default, _ATEN.squeeze.default, _ATEN.squeeze.dim, _ATEN.squeeze.dims}
    | {_ATEN.detach.default, _ATEN.alias.default, _ATEN._to_copy.default, _ATEN.clone.default}
)


@dataclass(frozen=True)
class _Slot:
    """Where a tensor stands among an operator's arguments."""

    index: int

    def __repr__(self) -> str:
        return f"@{self.index}"


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's is untyped
    """While it is active, every operator becomes a step.

    Args:
        file: the model's source, whose lines steps name.

    Attributes:
        steps: the steps so far.
        backward: whether a backward pass is running, whose operators have no line.
        is_reading: whether it reads the elements of a tensor itself.
    """

    def __init__(self, file: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
        self.steps: list[Step] = []
        self.backward = False
        self._file = file
        self._numbers = WeakTensorKeyDictionary()
        self._count = 0
        self._lines: dict[int, int] = {}
        self._storages: set[int] = set()
        self._views: dict[int, list[TensorWeakRef]] = {}  # what has a number, by its memory
        self._written: set[int] = set()  # the addresses of what an operator has written into
        self._draws: dict[object, int] = {}
        self._masks: set[int] = set()  # the values that are what was drawn
        self._columns: set[int] = set()  # those that are the column which joins keep
        self.is_reading = False
        self._problem: VerificationError | None = None

    # ---- values ----------------------------------------------------------------------------

    def enter(self, tensor: Tensor) -> int:
        """Return the number of a new value, an input."""
        self._storages.add(tensor.untyped_storage().data_ptr())
        return self._new(tensor)

    def is_written(self, tensor: Tensor) -> bool:
        """Whether an operator has written into the memory of a tensor that still exists."""
        return tensor.untyped_storage().data_ptr() in self._written

    def number(self, tensor: Tensor) -> int:
        """Return the number of a tensor's value; one that no step computed is a constant.

        Raises:
            VerificationError: a constant is a part of an input.
        """
        if tensor in self._numbers:
            return int(self._numbers[tensor])
        if (number := self._alias(tensor)) is not None:
            return number
        values = self._unrecorded(lambda: tensor.detach().to(torch.float64).numpy().copy())
        few = values.size <= _MOST_VALUES
        digest = values.tolist() if few else hashlib.sha256(values.tobytes()).hexdigest()
        number = self._new(tensor)

        def apply(context: Context) -> Array:
            return context.exact.constant(values)

        self._put("constant", repr((values.shape, digest)), (), (number,), apply)
        return number

    def _alias(self, tensor: Tensor) -> int | None:
        """The number of the tensor of which this is ``data``, which no operator shows.

        Raises:
            VerificationError: it is another view of the memory of one.
        """
        memory = tensor.untyped_storage().data_ptr()
        if not tensor.numel():
            return None
        alive = [each for view in self._views.get(memory, ()) if (each := view()) is not None]
        for each in reversed(alive):
            if _geometry(each) == _geometry(tensor):
                number = self._numbers[tensor] = int(self._numbers[each])
                self._views[memory].append(TensorWeakRef(tensor))
                return number
        if alive or memory in self._storages:
            raise self.error("a tensor is read by a way that leaves no trace")
        return None

    def _new(self, tensor: object = None) -> int:
        self._count += 1
        if isinstance(tensor, Tensor):
            if tensor not in self._numbers:
                views = self._views.setdefault(tensor.untyped_storage().data_ptr(), [])
                views[:] = [each for each in views if each() is not None]
                views.append(TensorWeakRef(tensor))
            self._numbers[tensor] = self._count
        return self._count

    # ---- operators -----------------------------------------------------------------------------

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: else PyTorch imports its compiler, and calls each operator through it."""
        return False

    def __torch_dispatch__(  # type: ignore[no-untyped-def]  # PyTorch's own signature is untyped
        self, func, types, args=(), kwargs=None
    ):
        kwargs = kwargs or {}
        if self.is_reading:
            return func(*args, **kwargs)
        if func in _LOOKS:
            raise self.error("what the model computes depends on the values of tensors")
        if func not in RULES and func not in _DRAWS:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is NotImplemented:
                raise self.error(
                    f"{func} has no meaning in exact arithmetic; use operators that have one, or "
                    "add its rule to cliquegraph_torch.aten"
                )
            return result
        tensors: list[Tensor] = []
        given = {name: each for name, each in kwargs.items() if name not in _WHERE}
        places = _cut((args, given), tensors)
        reads = tuple(self.number(tensor) for tensor in tensors)
        attributes = repr(places)
        apply = _applied(func, places)
        drawn = func in _DRAWS
        if drawn:
            attributes, apply = self._draw_elements(*args)
        if func is _ATEN.as_strided.default:
            self._require_whole(args[0])
        mutates = _mutated(func, args, kwargs)
        shapes = [tensor.shape for tensor in mutates]
        result = func(*args, **kwargs)
        if shapes != [tensor.shape for tensor in mutates]:
            raise self.error(f"{func} resizes what it writes into; give it a tensor of that shape")
        self._require_integers(func, reads, tensors, result, args)
        results = tuple(result) if isinstance(result, tuple | list) else (result,)
        apply = _laid_out(apply, [_layout(each, tensors) for each in results])
        writes = tuple(map(self._new, results))
        # What is returned after it was written in place has a number of its own by now.
        self._written.update(tensor.untyped_storage().data_ptr() for tensor in mutates)
        old = {id(tensor): number for tensor, number in zip(tensors, reads, strict=True)}
        mutated = tuple(dict.fromkeys(old[id(tensor)] for tensor in mutates))
        if drawn or (func in _RESHAPES and set(reads) <= self._masks):
            self._masks.update(writes)
        self._put(str(func), attributes, reads, writes, apply, mutated)
        return result

    def _require_integers(
        self,
        func: OpOverload,
        reads: Sequence[int],
        tensors: Sequence[Tensor],
        result: object,
        scalars: Sequence[object],
    ) -> None:
        """Raise if numbers are rounded to integers, unless they are 0 or 1 anyway."""
        if func in _DRAWS or not isinstance(result, Tensor) or result.dtype.is_floating_point:
            return
        sources = [
            number
            for number, tensor in zip(reads, tensors, strict=True)
            if func in _CONVERTS and tensor.dtype.is_floating_point
        ]
        fractions = (isinstance(each, float) and not each.is_integer() for each in scalars)
        if any(fractions) or not self._masks.issuperset(sources):
            raise self.error("numbers are rounded to integers, which has no exact meaning")

    def _require_whole(self, tensor: Tensor) -> None:
        """Raise if a tensor isn't all of its memory in order: strides count in the memory."""
        if tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes:
            return
        raise self.error("as_strided has an exact meaning on contiguous tensors alone")

    def _put(
        self,
        operator: str,
        attributes: str,
        reads: tuple[int, ...],
        writes: tuple[int, ...],
        apply: Apply,
        mutates: tuple[int, ...] = (),
    ) -> None:
        line = self._line(of_method=True)
        if line is None and not self.backward:  # a copy that the trace itself makes
            line = next((self._lines[each] for each in reads if each in self._lines), None)
        if line is not None:
            self._lines.update(dict.fromkeys(writes, line))
        self.steps.append(Step(operator, attributes, reads, writes, apply, mutates, line))

    def note(self, tensors: Sequence[Tensor]) -> None:
        """Record that the results of a decision are these, for whoever compares two of them."""

        def apply(context: Context, *arrays: Array) -> tuple[()]:
            digest = hashlib.sha256()
            for array in arrays:
                digest.update(repr(array.shape).encode())
                digest.update(array.tobytes())
            context.notes.append(digest.hexdigest())
            return ()

        reads = tuple(map(self.number, tensors))
        self._put("cliquegraph.note", "", reads, (), apply)

    # ---- random choices ------------------------------------------------------------------------

    def draw(
        self,
        law: Law,
        shape: tuple[int, ...],
        value: Callable[[], Tensor],
        read: Tensor | None = None,
    ) -> Tensor:
        """Record a random choice, and return what stands for its result.

        Args:
            law: what it is drawn from.
            shape: of the result.
            value: computes what stands for it, and moves the generator on.
            read: what it depends on, the column of a join.
        """
        number = -1 if law[0] == "column" else self._drawing(law, shape)

        def apply(context: Context, *read: Array) -> Array:
            return context.draw(number, law, shape)

        reads = () if read is None else (self.number(read),)
        if not self._columns.issuperset(reads):
            raise self.error("a join keeps a column that is not drawn")
        tensor = self._unrecorded(value)
        result = self._new(tensor)
        self._masks.add(result)
        if law[0] == "column":
            self._columns.add(result)
        self._put("cliquegraph.draw", repr((number, law, shape)), reads, (result,), apply)
        return tensor

    def _unrecorded(self, run: Callable[[], _T]) -> _T:
        """Return what ``run`` returns, without recording it."""
        self.is_reading = True
        try:
            return run()
        finally:
            self.is_reading = False

    def _draw_elements(self, like: Tensor, survival: float = 0.5) -> tuple[str, Apply]:
        """The attributes and the meaning of drawing 0 or 1 for each element."""
        law = ("element", rate_of(survival))
        shape = tuple(like.shape)
        number = self._drawing(law, shape)

        def apply(context: Context, into: Array) -> Array:
            into[...] = context.draw(number, law, shape)
            return into

        return repr((number, law, shape)), apply

    def _drawing(self, law: Law, shape: tuple[int, ...]) -> int:
        """Number a drawing; one from the same state of the generator is the same again."""
        state = self._unrecorded(lambda: torch.get_rng_state().numpy().tobytes())
        key = (hashlib.sha256(state).digest(), law, shape)
        return self._draws.setdefault(key, len(self._draws))

    # ---- places ----------------------------------------------------------------------------

    def _line(self, *, of_method: bool = False) -> int | None:
        """The innermost line of the model's source that is being executed, in a forward pass.

        Args:
            of_method: rather that of a module's method than that of what many of them call.
        """
        if self.backward:
            return None
        innermost = None
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if frame.f_code.co_filename == self._file:
                if not of_method or _is_of_module(frame):
                    return frame.f_lineno
                innermost = innermost or frame.f_lineno
            frame = frame.f_back
        return innermost

    def error(self, problem: str) -> VerificationError:
        """Return the error of what the model executes, which names the line."""
        line = self._line()
        error = VerificationError(problem if line is None else f"line {line}: {problem}")
        self._problem = self._problem or error
        return error

    def require_no_problem(self) -> None:
        """Raise the first error again, if the model has caught it and went on otherwise."""
        if self._problem is not None:
            raise self._problem


def _geometry(tensor: Tensor) -> tuple[object, ...]:
    """Which elements of its memory a tensor has, and how it reads them."""
    return tensor.dtype, tensor.storage_offset(), tensor.shape, tensor.stride()


def _is_of_module(frame: FrameType) -> bool:
    code = frame.f_code
    if code.co_argcount == 0 or code.co_varnames[0] != "self":
        return False
    return isinstance(frame.f_locals.get("self"), nn.Module)


def rate_of(survival: float) -> Fraction:
    """Return the rate at which is dropped what survives with this probability."""
    return 1 - rational(survival)


def _cut(value: Any, tensors: list[Tensor]) -> Any:
    """Arguments with a slot in place of each tensor, which are appended to ``tensors``."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return _Slot(len(tensors) - 1)
    if isinstance(value, list | tuple):
        return [_cut(each, tensors) for each in value]
    if isinstance(value, dict):
        return {name: _cut(each, tensors) for name, each in value.items()}
    return value


def _filled(value: Any, arrays: Sequence[Array]) -> Any:
    """Arguments with the arrays in their slots."""
    if isinstance(value, _Slot):
        return arrays[value.index]
    if isinstance(value, list):
        return [_filled(each, arrays) for each in value]
    if isinstance(value, dict):
        return {name: _filled(each, arrays) for name, each in value.items()}
    return value


def _applied(func: OpOverload, places: Any) -> Apply:
    """The operator's rule with its constant arguments."""
    rule = RULES.get(func)

    def apply(context: Context, *arrays: Array) -> Sequence[Array | None] | Array:
        assert rule is not None  # noqa: S101  # draws have none, and don't get here
        args, kwargs = _filled(places, arrays)
        result: Sequence[Array | None] | Array = rule(context.exact, *args, **kwargs)
        return result

    return apply


def _layout(result: object, reads: Sequence[Tensor]) -> tuple[int, ...] | None:
    """The order of a new result's dimensions in memory; None if it shares that of what is read."""
    if not isinstance(result, Tensor):
        return None
    memory = result.untyped_storage().data_ptr()
    if any(each.untyped_storage().data_ptr() == memory for each in reads):
        return None
    strides = result.stride()
    return tuple(sorted(range(len(strides)), key=lambda dim: -strides[dim]))


def _laid_out(apply: Apply, orders: Sequence[tuple[int, ...] | None]) -> Apply:
    """Let new results lie in memory as PyTorch's do, so that what is a view there is one here."""

    def run(context: Context, *arrays: Array) -> Sequence[Array | None]:
        result = apply(context, *arrays)
        results = (result,) if isinstance(result, np.ndarray) else result
        owners = {id(_owner(each)) for each in arrays if each is not None}
        lead = context.exact.lead
        return [
            array if array is None or order is None else _in_order(array, order, lead, owners)
            for array, order in zip(results, orders, strict=True)
        ]

    return run


def _in_order(array: Array, order: Sequence[int], lead: int, owners: Collection[int]) -> Array:
    """An array with its axes in this order in memory that is its own."""
    if array.ndim != lead + len(order):  # derivatives in place of indices, which nobody writes
        return array
    axes = (*range(lead), *(lead + dim for dim in order))
    turned = array.transpose(axes)
    if turned.flags.c_contiguous and id(_owner(array)) not in owners:
        return array
    return np.array(turned, order="C").transpose(np.argsort(axes))


def _owner(array: Array) -> object:
    """What owns the memory of an array."""
    owner: Any = array
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    return owner


def _mutated(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors into which an operator writes."""
    written: list[Tensor] = []
    for at, argument in enumerate(func._schema.arguments):
        value = args[at] if at < len(args) else kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write:
            written += [value] if isinstance(value, Tensor) else list(value or ())
    return written + statistics_moved(func, args)
