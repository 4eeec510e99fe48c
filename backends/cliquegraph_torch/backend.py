"""Writes a network as PyTorch source."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from cliquegraph.emit.file import write_file
from cliquegraph.emit.render import environment
from cliquegraph.emit.view import Dense, Kernel, KernelBank, ModelView, SharedKernel, Thing
from cliquegraph.errors import BackendError
from cliquegraph_torch.spell import TorchSpeller

if TYPE_CHECKING:
    from cliquegraph.emit.backend import Executor
    from cliquegraph.ir.graph import Graph

_HELPERS: dict[type[Thing], str] = {
    KernelBank: "kernel_bank",
    SharedKernel: "he_kernel",
    Kernel: "he_conv",
    Dense: "xavier_linear",
}
"""The helper function that constructs each kind of member, and its template."""


_IMPORTS = {
    "import torch": "torch",
    "import torch.nn.functional as F": "F",
    "from torch import Tensor, nn": "nn",
}


class TorchBackend:
    """The backend behind ``--backend torch``."""

    name = "torch"
    description = "PyTorch nn.Module; images and maps are (batch, channels, height, width)"
    reserved = frozenset({"torch", "nn", "F", "Tensor", *_HELPERS.values()})

    def write(self, view: ModelView) -> str:
        """Return the source of the network."""
        helpers = [name for thing, name in _HELPERS.items() if thing in view.things]
        templates = environment("cliquegraph_torch")
        return write_file(view, TorchSpeller(), templates, helpers, _IMPORTS)

    def missing(self) -> str | None:
        """Return how to install PyTorch, or None where it is installed."""
        return None if find_spec("torch") else "pip install 'cliquegraph[torch]'"

    def executor(self, source: str, class_name: str, graph: Graph, dtype: str) -> Executor:
        """Load a source that ``write`` returned."""
        if how := self.missing():
            raise BackendError(f"backend 'torch' needs PyTorch: {how}")
        from cliquegraph_torch.execute import TorchExecutor

        return TorchExecutor(source, class_name, graph, dtype)


BACKEND = TorchBackend()
