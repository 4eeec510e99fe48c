"""Trains and runs generated Flax models; what does not train needs no Orbax."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from cliquegraph.compiler import Compilation
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.engines import Choice, Classify
from cliquegraph.plugins.install import load_part
from cliquegraph.training.job import Job, Precision
from cliquegraph.training.session import Session
from cliquegraph_flax.needs import FRAMEWORK, TRAINER

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


class FlaxEngine:
    """Trains with optax, with checkpoints by Orbax; classifies without them."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of JAX and of the libraries on top of it."""
        return {name: version(name) for name in _LIBRARIES}

    def choose(self, job: Job) -> Choice:
        """Return the choice for the devices, from the measurements in docs/optimiser.md."""
        choice: Choice = load_part("cliquegraph_flax.choice", "training in Flax", TRAINER).choose(
            job
        )
        return choice

    def check(self, job: Job) -> None:
        """Open the devices; a batch must be divisible among all of them."""
        load_part("cliquegraph_flax.train", "training in Flax", TRAINER).TRAINER.check(job)

    def train(self, session: Session) -> None:
        """Train until the session is over."""
        from cliquegraph_flax import train

        train.TRAINER.train(session)

    def classifier(
        self, compilation: Compilation, tensors: Mapping[str, Array], precision: Precision
    ) -> Classify:
        """Return a network that classifies images."""
        part = load_part("cliquegraph_flax.classify", "running a network in Flax", FRAMEWORK)
        classify: Classify = part.classifier(compilation, tensors, precision)
        return classify


ENGINE = FlaxEngine()
