"""Export of generated PyTorch models: ONNX, and programs of torch.export.

PyTorch is imported where it is used, so that a message can name all packages that are missing.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliquegraph.compiler import Compilation
from cliquegraph.data import Images
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.backends import find_backend
from cliquegraph.plugins.engines import Classify
from cliquegraph.weights import load_weights

if TYPE_CHECKING:
    import torch
    from torch import nn

METADATA = "cliquegraph"
"""The key of the metadata in a file, JSON."""


class OnnxExporter:
    """Writes ONNX by ``torch.onnx.export(dynamo=True)``; onnxruntime runs it if installed."""

    modules = ("torch", "onnx", "onnxscript")
    layout = "NCHW"
    has_metadata = True

    def export(
        self, compilation: Compilation, tensors: Mapping[str, Array], metadata: Mapping[str, Any]
    ) -> bytes:
        """Return an ONNX file with input ``images`` and output ``logits``."""
        import torch

        model, sample, shapes = _prepared(compilation, tensors)
        with _quiet():
            program: Any = torch.onnx.export(
                model,
                (sample,),
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=["images"],
                output_names=["logits"],
                verbose=False,
            )
        program.model.metadata_props[METADATA] = json.dumps(metadata)
        content: bytes = program.model_proto.SerializeToString()
        return content

    def classifier(self, path: Path) -> Classify:
        """Load a file in onnxruntime, else in ONNX's reference implementation."""
        if find_spec("onnxruntime") is None:
            from onnx.reference import ReferenceEvaluator

            run = ReferenceEvaluator(str(path)).run
        else:
            from onnxruntime import InferenceSession

            run = InferenceSession(str(path), providers=["CPUExecutionProvider"]).run

        def classify(images: Images) -> Array:
            computed: Any = run(None, {"images": images})
            logits: Array = computed[0]
            return logits

        return classify


class ProgramExporter:
    """Writes programs of ``torch.export``; the file's metadata is an extra file in it."""

    modules = ("torch",)
    layout = "NCHW"
    has_metadata = True

    def export(
        self, compilation: Compilation, tensors: Mapping[str, Array], metadata: Mapping[str, Any]
    ) -> bytes:
        """Return what ``torch.export.load`` reads."""
        import torch

        model, sample, shapes = _prepared(compilation, tensors)
        content = io.BytesIO()
        with _quiet():
            program = torch.export.export(model, (sample,), dynamic_shapes=shapes)
            torch.export.save(program, content, extra_files={METADATA: json.dumps(metadata)})
        return content.getvalue()

    def classifier(self, path: Path) -> Classify:
        """Load a file in PyTorch."""
        import torch

        with _quiet(), path.open("rb") as file:
            module = torch.export.load(io.BytesIO(file.read())).module()

        def classify(images: Images) -> Array:
            with torch.inference_mode():
                logits: Array = module(torch.from_numpy(images)).numpy()
            return logits

        return classify


ONNX = OnnxExporter()
PROGRAM = ProgramExporter()


def _prepared(
    compilation: Compilation, tensors: Mapping[str, Array]
) -> tuple[nn.Module, torch.Tensor, Any]:
    """The folded model, an example of its images, and which of their axes may vary."""
    import torch

    network, image = compilation.network, compilation.network.input
    source = compilation.source(find_backend("torch"))
    module = load_source(source, f"cliquegraph_exported_{network.name}")
    model: nn.Module = getattr(module, network.python_class)()
    load_weights(model, network, tensors)
    sample = torch.zeros(2, image.channels, image.height, image.width)
    return model.eval(), sample, ({0: torch.export.Dim("batch", min=1)},)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what exporters print about their own progress."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
