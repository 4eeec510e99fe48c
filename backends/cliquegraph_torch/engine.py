"""Trains and runs generated PyTorch models; what does not train needs no Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from cliquegraph.compiler import Compilation
from cliquegraph.ir.storage import Array
from cliquegraph.plugins.engines import Choice, Classify
from cliquegraph.plugins.install import load_part
from cliquegraph.training.job import Job, Precision
from cliquegraph.training.session import Session
from cliquegraph_torch.needs import FRAMEWORK, TRAINER


class TorchEngine:
    """Trains with pytorch-lightning; classifies with PyTorch alone."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of PyTorch and Lightning."""
        import torch

        return {"torch": torch.__version__, "pytorch-lightning": version("pytorch-lightning")}

    def choose(self, job: Job) -> Choice:
        """Return the choice for this device, from the measurements in docs/optimiser.md."""
        choice: Choice = load_part(
            "cliquegraph_torch.choice", "training in PyTorch", TRAINER
        ).choose(job)
        return choice

    def check(self, job: Job) -> None:
        """Check what Lightning would not check, or only after other processes have started."""
        load_part("cliquegraph_torch.train", "training in PyTorch", TRAINER).TRAINER.check(job)

    def train(self, session: Session) -> None:
        """Train until the session is over."""
        from cliquegraph_torch import train

        train.TRAINER.train(session)

    def classifier(
        self, compilation: Compilation, tensors: Mapping[str, Array], precision: Precision
    ) -> Classify:
        """Return a network that classifies images."""
        part = load_part("cliquegraph_torch.classify", "running a network in PyTorch", FRAMEWORK)
        classify: Classify = part.classifier(compilation, tensors, precision)
        return classify


ENGINE = TorchEngine()
