"""Export of generated Flax models: StableHLO by jax.export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import export

from cliquegraph.compiler import Compilation
from cliquegraph.data import Images
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.backends import find_backend
from cliquegraph.plugins.engines import Classify
from cliquegraph.weights import load_weights
from cliquegraph_flax.live import blank

PLATFORMS = ("cpu", "cuda", "tpu")


class StablehloExporter:
    """Writes what ``jax.export.deserialize`` reads: StableHLO, with the weights as constants."""

    modules = ("jax", "flax")
    layout = "NHWC"
    has_metadata = False

    def export(
        self, compilation: Compilation, tensors: Mapping[str, Array], metadata: Mapping[str, Any]
    ) -> bytes:
        """Return the serialized function of images (batch, H, W, C)."""
        network, image = compilation.network, compilation.network.input
        source = compilation.source(find_backend("flax"))
        create = getattr(load_source(source, "cliquegraph_exported"), network.python_class)
        model = blank(lambda: create(rngs=nnx.Rngs(0)))
        load_weights(model, network, tensors)
        model.eval()
        parts: Any = nnx.split(model)

        def logits(images: jax.Array) -> Any:
            return nnx.merge(*parts, copy=True)(images)

        (batch,) = export.symbolic_shape("batch")
        shape = (batch, image.height, image.width, image.channels)
        images: Any = jax.ShapeDtypeStruct(shape, np.float32)  # type: ignore[no-untyped-call]  # JAX's
        exported = export.export(jax.jit(logits), platforms=PLATFORMS)(images)
        return bytes(exported.serialize())

    def classifier(self, path: Path) -> Classify:
        """Load a file in JAX."""
        call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)

        def classify(images: Images) -> Array:
            return np.asarray(call(np.ascontiguousarray(np.transpose(images, (0, 2, 3, 1)))))

        return classify


STABLEHLO = StablehloExporter()
