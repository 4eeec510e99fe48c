"""Model classes in memory."""

from __future__ import annotations

from typing import Any

from cliquegraph.built.importer import imported
from cliquegraph.built.names import Recipe
from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.arguments import describe_type
from cliquegraph.diagnostics.errors import BackendError
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, passes_of
from cliquegraph.plugins.backends import find_backend
from cliquegraph.spec.load import Declaration, load


def build(
    network: Declaration,
    backend: str,
    *,
    level: int = DEFAULT_LEVEL,
    inference: bool = False,
) -> type[Any]:
    """Compile a network and return its model class, without writing a file.

    The class is that of the generated file: an ``nn.Module`` of PyTorch for images (batch, C, H,
    W), created by ``Model()``, or an ``nnx.Module`` of Flax for images (batch, H, W, C), created
    by ``Model(rngs=nnx.Rngs(0))``. It and its instances can be pickled, copied, sent to other
    processes and saved by ``torch.save``: the name of its module holds the spec, from which
    cliquegraph, where it is installed, compiles it again. ``inspect.getsource`` and tracebacks show
    the generated lines. The same arguments return the same class.

    Args:
        network: whatever ``load`` takes: a network, a path, a dictionary.
        backend: the name of an installed backend.
        level: the -O level.
        inference: fold what is constant in evaluation; the level is then ignored.

    Raises:
        SpecError: invalid shapes, or a class name that the backend's files use.
        ExpectError: a figure of ``expect`` does not match.
        BackendError: there is no such backend, or its framework is not installed.
        UsageError: there is no such level.
        VerificationError: as of ``compile``.

    >>> import cliquegraph, torch
    >>> model = cliquegraph.build("specs/quickstart.yaml", "torch")()
    >>> model(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    if not isinstance(backend, str):
        raise BackendError(f"expected the name of a backend, found {describe_type(backend)}")
    network, chosen = load(network), find_backend(backend)
    if how := chosen.missing():
        raise BackendError(f"the framework of backend {backend!r} is not installed: {how}")
    passes_of(level)  # raises an error if there is no such level
    recipe = Recipe(network, backend, DEFAULT_LEVEL if inference else level, inference)
    compilation = Compilation(network, recipe.level, inference)
    module = imported(recipe, lambda: compilation.source(chosen))
    model: type[Any] = getattr(module, network.python_class)
    return model
