"""Export of generated Flax models: StableHLO by jax.export.

JAX is imported where it is used, so that a message can name all packages that are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cliquegraph.compiler import Compilation
from cliquegraph.data import Images
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.backends import find_backend
from cliquegraph.plugins.engines import Classify
from cliquegraph.weights import load_weights

if TYPE_CHECKING:
    import jax

PLATFORMS = ("cpu", "cuda", "tpu")


class StablehloExporter:
    """Writes what ``jax.export.deserialize`` reads: StableHLO, with the weights as constants."""

    modules = ("jax", "flax", "flatbuffers")
    layout = "NHWC"
    has_metadata = False

    def export(
        self, compilation: Compilation, tensors: Mapping[str, Array], metadata: Mapping[str, Any]
    ) -> bytes:
        """Return the serialized function of images (batch, H, W, C)."""
        import jax
        from flax import nnx
        from jax import export

        from cliquegraph_flax.live import blank

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
        import jax
        from jax import export

        call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)

        def classify(images: Images) -> Array:
            return np.asarray(call(np.ascontiguousarray(np.transpose(images, (0, 2, 3, 1)))))

        return classify


STABLEHLO = StablehloExporter()
