"""Live models that are traced: their tracer, tensors and source."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cliquegraph.diagnostics.errors import BackendError, CliqueGraphError, UsageError
from cliquegraph.plugins.backends import find_backend, installed
from cliquegraph.proof.mapped import Own
from cliquegraph.proof.models import failure
from cliquegraph.proof.program import Tracer


def tracer_of(model: Any) -> Tracer:
    """The tracer of a live model.

    Raises:
        UsageError: no installed backend traces such models.
    """
    for name in installed():
        make: Callable[[Any], Tracer | None] | None = getattr(
            find_backend(name), "model_tracer", None
        )
        try:
            tracer = None if make is None else make(model)
            _ = tracer and tracer.shapes  # of lazy modules there are none yet
        except CliqueGraphError:
            raise
        except Exception as error:  # noqa: BLE001  # of modules that can't be copied
            why = "call a lazy module once, and pass the module that was scripted"
            raise UsageError(f"the model can't be copied: {failure(error)}; {why}") from None
        if tracer is not None:
            return tracer
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    why = "certify takes PyTorch models, nn.Module"
    if any(find_backend(name).live(model) is not None for name in installed()):
        raise BackendError(f"a {kind} is a model of another framework: {why}")
    raise UsageError(f"a {kind} is no model: {why}")


def own_tensors(tracer: Tracer) -> Own:
    """Return what a model holds, by all names that a tensor has."""
    model: Any = tracer.model
    first: dict[int, str] = {}
    aliases: dict[str, str] = {}
    counters = set()
    for name, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        owner = first.setdefault(id(tensor), name)
        if owner != name:
            aliases[name] = owner
        if name.endswith("num_batches_tracked"):
            counters.add(name)
    return Own(tracer.shapes, tracer.parameters, aliases, frozenset(counters))


def source_digest(model: Any) -> str:
    """SHA-256 of the file that defines the model's class; empty if there is none."""
    try:
        path = inspect.getsourcefile(type(model))
        return "" if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""
