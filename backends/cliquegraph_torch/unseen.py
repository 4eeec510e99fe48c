"""What a trace of a PyTorch model does not see, and so is refused: reads by Python, and hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules

from cliquegraph.diagnostics.errors import VerificationError
from cliquegraph_torch.recorder import Recorder

_READS: tuple[tuple[Any, str], ...] = (
    *((Tensor, name) for name in ("numpy", "tolist", "__array__", "__dlpack__", "__reduce_ex__")),
    (torch.utils.dlpack, "to_dlpack"),
)
"""What gives the elements of a tensor to Python without an operator; ``item`` is one."""

_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", *_BACKWARD_HOOKS)


@contextmanager
def reads_refused(recorder: Recorder) -> Iterator[None]:
    """Refuse what reads the elements of tensors, but where the recorder itself does.

    By attributes of the class: a ``TorchFunctionMode`` is off within PyTorch's own functions.
    """

    def refusing(name: str, read: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            if recorder.is_reading:
                return read(*args, **kwargs)
            raise recorder.error(
                f"{name}() reads a tensor's elements in Python: what the model computes may depend "
                "on them, which a trace does not show"
            )

        return refuse

    found = [(owner, name, getattr(owner, name)) for owner, name in _READS]
    inherited = {name for owner, name in _READS if name not in vars(owner)}
    for owner, name, read in found:
        setattr(owner, name, refusing(name, read))
    try:
        yield
    finally:
        for owner, name, read in found:
            if name in inherited:
                delattr(owner, name)
            else:
                setattr(owner, name, read)


@contextmanager
def hooks_refused(model: nn.Module, tensors: Iterable[Tensor]) -> Iterator[None]:
    """Refuse hooks that belong to no model, those on gradients, and those that a call registers.

    Args:
        model: the model.
        tensors: its parameters and buffers during the call.

    Raises:
        VerificationError: there is such a hook.
    """
    _require_no_global_hooks()
    before = _hooks(model)
    for name, kind in before:
        if kind in _BACKWARD_HOOKS:
            where = f"its module {name}" if name else "the model"
            raise VerificationError(
                f"a hook that changes gradients can't be traced: {where} has one"
            )
    yield
    _require_no_global_hooks()
    if len(_hooks(model)) > len(before) or any(map(is_hooked, tensors)):
        raise VerificationError(
            "a call of the model registers a hook, which the next call executes: register it when "
            "the model is built"
        )


def is_hooked(tensor: Tensor) -> bool:
    """Whether a tensor has a hook on its gradient."""
    return bool(tensor._backward_hooks or tensor._post_accumulate_grad_hooks)


def _hooks(model: nn.Module) -> list[tuple[str, str]]:
    """The module and the kind of each hook of a model."""
    return [
        (name, kind)
        for name, module in model.named_modules()
        for kind in _HOOKS
        for _ in getattr(module, kind)
    ]


def _require_no_global_hooks() -> None:
    for kind in _HOOKS:
        if getattr(modules, f"_global{kind}"):
            word = kind.strip("_").removesuffix("s")
            raise VerificationError(
                f"a global hook of all modules is registered, by register_module_{word}: it would "
                "be traced as a part of the model. Remove it, by the handle that was returned"
            )
