"""Trains generated PyTorch models with pytorch-lightning."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from cliquegraph.data import Batches, prefetched
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.ir.storage import Array
from cliquegraph.spec.schema import Input
from cliquegraph.training.job import Job, Precision
from cliquegraph.training.launch import launched
from cliquegraph.training.scores import Scores, Totals
from cliquegraph.training.session import Session
from cliquegraph.weights import load_weights, model_weights
from cliquegraph_torch.classify import cudnn_benchmark, memory_format_of, model_of, to_array
from cliquegraph_torch.graphed import GraphedStep, require_capturable
from cliquegraph_torch.loss import last_stage, mean_cross_entropy
from cliquegraph_torch.synchronized import synchronize

_PRECISIONS: dict[Precision, Any] = {
    "float64": "64-true",
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}


class TorchTrainer:
    """Trains with pytorch-lightning, on one device or with DDP on several."""

    def check(self, job: Job) -> None:
        """Check what Lightning would not check, or only after other processes have started."""
        if job.precision == "float16" and not torch.cuda.is_available():
            raise UsageError("float16 needs a GPU; bfloat16 runs anywhere")  # Lightning accepts it
        if job.cuda_graph:
            require_capturable(job, _ranks(job))
        gpus, requested = torch.cuda.device_count(), job.devices or 1
        if gpus and requested > gpus:
            raise UsageError(f"--devices {requested}: this machine has {gpus}")
        if job.sync_batchnorm and job.compilation.level:
            raise UsageError("--sync-batchnorm trains a model of -O0 in PyTorch: leave out -O")
        job.require_separate_parts()
        launch = launched()
        if launch is None and job.nodes > 1 and "MASTER_ADDR" not in os.environ:
            raise UsageError(
                f"{job.nodes} nodes take a process on each of them: start it by torchrun or srun"
            )
        if launch is not None and job.devices not in (None, launch.per_node):
            raise UsageError(
                f"--devices {job.devices}: {launch.per_node} processes were launched on this "
                "machine, one for each device"
            )
        job.share(_ranks(job))

    def train(self, session: Session) -> None:
        """Train until the session is over."""
        job = session.job
        memory_format = memory_format_of(bool(job.channels_last))
        network = job.compilation.network
        model = model_of(session.source, session.class_name, job.precision, memory_format)
        load_weights(model, network, session.initial())
        for part in job.freeze:
            model.get_submodule(part).requires_grad_(False)
        devices, nodes = _places(job)
        gpus = torch.cuda.is_available()
        many = _ranks(job) > 1
        synced = job.sync_batchnorm and many
        if synced and not gpus:
            synchronize(model)
        with _quiet(), cudnn_benchmark(job.cudnn_benchmark):
            trainer = pl.Trainer(
                accelerator="gpu" if gpus else "cpu",
                devices=devices or "auto",
                num_nodes=nodes,
                strategy=_strategy(model, network.input) if many else "auto",
                precision=_PRECISIONS[job.precision],
                sync_batchnorm=synced and gpus,
                max_epochs=job.recipe.epochs - session.epoch,
                accumulate_grad_batches=job.accumulate,
                reload_dataloaders_every_n_epochs=1,
                num_sanity_val_steps=0,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            try:
                trainer.fit(_Training(model, session, memory_format))
            except _Stopped:
                return


TRAINER = TorchTrainer()


class _Stopped(Exception):  # noqa: N818  # not an error
    """Leaves Lightning's loop at the end of the session."""


class _Loader:
    """A data loader for Lightning: an epoch of batches, in parts for accumulation."""

    def __init__(self, batches: Batches, epoch: int = 0, start: int = 0, parts: int = 1) -> None:
        self._batches, self._epoch, self._start, self._parts = batches, epoch, start, parts
        self._pinned = torch.cuda.is_available()  # pageable memory is copied synchronously

    def __len__(self) -> int:
        return (len(self._batches) - self._start) * self._parts

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return prefetched(self._items())

    def _items(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._batches.epoch(self._epoch, self._start):
            images, labels = torch.from_numpy(batch.images), torch.from_numpy(batch.labels)
            if self._pinned:
                images, labels = images.pin_memory(), labels.pin_memory()
            yield from zip(images.chunk(self._parts), labels.chunk(self._parts), strict=True)


class _Training(pl.LightningModule):
    """The steps of a session, as a Lightning module.

    Between two rows of ``steps.csv`` nothing here waits for the device: counts stay on it, and only
    images and labels are copied there. With several ranks, Lightning waits before each step to ask
    whether one received a SIGTERM.

    With ``cuda_graph``, optimization is manual in Lightning's terms: ``training_step`` takes the
    whole step, since all of it is captured.
    """

    def __init__(
        self, model: nn.Module, session: Session, memory_format: torch.memory_format
    ) -> None:
        super().__init__()
        self.model = model
        self._memory_format = memory_format
        self._session = session
        self._parts = session.job.accumulate
        self._frozen = [model.get_submodule(part) for part in session.job.freeze]
        self._scores: dict[str, Scores] = {}
        self._images = 0
        self._graphed: GraphedStep | None = None
        if session.job.cuda_graph:
            self.automatic_optimization = False
            self._graphed = GraphedStep(self._whole_step, memory_format)
        self.train()

    # ---- called by Lightning --------------------------------------------------------

    def train(self, mode: bool = True) -> _Training:
        """Set the mode; frozen parts are always in evaluation."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD with Nesterov momentum, with weight decay on every trained parameter."""
        recipe = self._session.job.recipe
        rate: float | Tensor = recipe.learning_rate
        if self._graphed is not None:
            # A graph reads the rate from memory: as a tensor, which only the fused kernel does not
            # read on the host, and which that kernel requires to be float32.
            rate = torch.tensor(rate, dtype=torch.float32, device=self.device)
        return torch.optim.SGD(
            self._trained(),
            rate,
            recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
            fused=self._graphed is not None or None,
        )

    def train_dataloader(self) -> _Loader:
        """Return the rest of the epoch."""
        session = self._session
        batches = session.batches(self.trainer.global_rank, self.trainer.world_size)
        return _Loader(batches, session.epoch, session.step, self._parts)

    def val_dataloader(self) -> list[_Loader]:
        """Return a loader for every part of the data that is evaluated."""
        place = self.trainer.global_rank, self.trainer.world_size
        return [_Loader(self._session.evaluation(part, *place)) for part in self._session.parts]

    def on_fit_start(self) -> None:
        """Resume from a checkpoint: Lightning's own resumption forgets the position in an epoch."""
        self._counted = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss and hits
        if self._session.restored is None:
            return
        state = torch.load(self._session.restored / _STATE, map_location="cpu")
        self.load_state_dict(state["state_dict"])
        (optimizer,) = self.trainer.optimizers
        # Momentum alone: the options are this session's, since the other may have had no graph.
        momentum = state["optimizer_states"][0]["state"]
        optimizer.load_state_dict({**optimizer.state_dict(), "state": momentum})
        precision = self.trainer.precision_plugin
        key = type(precision).__qualname__  # as Lightning names it in its file
        if key in state:
            precision.load_state_dict(state[key])

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        """Set the learning rate, and the seed of dropout: a function of seed and step."""
        session = self._session
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                if self._graphed is None:
                    group["lr"] = session.rate
                else:
                    group["lr"].fill_(session.rate)
        torch.manual_seed(session.noise(self.trainer.global_rank, index % self._parts))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor | None:
        """Return the mean cross entropy; with a graph, take the step instead."""
        images, labels = batch
        self._images += len(labels)  # on the host: a copy from there would wait for the device
        if self._graphed is None:
            return self._loss(images, labels)
        self._graphed(images, labels)
        return None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Fill in zero gradients, which PyTorch's SGD would skip: weight decay applies to all."""
        for parameter in self._trained():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        """Notify the session of a step after its last part."""
        if (index + 1) % self._parts == 0 and self._session.step_done(self):
            raise _Stopped

    def validation_step(
        self, batch: tuple[Tensor, Tensor], index: int, dataloader_idx: int = 0
    ) -> None:
        """Count a batch."""
        part = self._session.parts[dataloader_idx]
        scores = self._scores.setdefault(part, Scores(len(self._session.job.data.classes)))
        scores.add(to_array(last_stage(self._logits(batch[0]))), batch[1].cpu().numpy())

    def on_train_epoch_end(self) -> None:
        """Notify the session, after the evaluation."""
        for scores in self._scores.values():
            scores.unpack(self._summed(torch.from_numpy(scores.packed())).numpy())
        self._session.epoch_done(self, self._scores)
        self._scores = {}
        if self._session.over:
            raise _Stopped

    # ---- called by the session ------------------------------------------------------

    @property
    def alone(self) -> bool:
        """Whether there is only one rank."""
        return int(self.trainer.world_size) == 1

    def totals(self) -> Totals:
        """Return what was counted since the last call, over all ranks."""
        images = self._counted.new_tensor([self._images])
        loss, hits, images = self._summed(torch.cat([self._counted, images])).tolist()
        self._counted.zero_()  # in place: a graph adds to this tensor
        self._images = 0
        return Totals(loss, int(hits), int(images))

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any rank."""
        decided: bool = self.trainer.strategy.reduce_boolean_decision(flag, all=False)
        return decided

    def save(self, folder: Path) -> None:
        """Write Lightning's checkpoint."""
        self.trainer.save_checkpoint(folder / _STATE)

    def tensors(self) -> dict[str, Array]:
        """Return the canonical tensors."""
        return model_weights(self.model, self._session.job.compilation.network)

    def _trained(self) -> list[nn.Parameter]:
        """The parameters that are not frozen."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean cross entropy of a batch, which is counted, with the hits."""
        logits = self._logits(images)
        loss = mean_cross_entropy(logits, labels, self._session.job.recipe.stage_shares)
        hits = (last_stage(logits.detach()).argmax(1) == labels).sum()
        self._counted += torch.stack([loss.detach().double() * len(labels), hits.double()])
        return loss

    def _whole_step(self, images: Tensor, labels: Tensor) -> None:
        """Take an SGD step, by what a CUDA graph may contain."""
        (optimizer,) = self.trainer.optimizers
        optimizer.zero_grad()  # to None: the capture allocates gradients in its own memory
        loss = self._loss(images, labels)  # in the precision that Lightning has set
        with torch.autocast(self.device.type, enabled=False):  # as Lightning's own backward passes
            loss.backward()  # type: ignore[no-untyped-call]  # in PyTorch
            self.on_before_optimizer_step(optimizer)
            optimizer.step()

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.to(memory_format=self._memory_format))
        return logits

    def _summed(self, vector: Tensor) -> Tensor:
        """The sum over all ranks, in float64 on the CPU."""
        local = vector.to(self.device)
        total: Any = self.trainer.strategy.reduce(local, reduce_op="sum")
        return total.cpu()  # type: ignore[no-any-return]  # a tensor in, a tensor out


_STATE = "state.ckpt"
"""Lightning's checkpoint, in a checkpoint's folder."""


def _places(job: Job) -> tuple[int | None, int]:
    """Devices per machine, None for all, and machines: as requested, or as launched."""
    launch = launched()
    if launch is None:
        return job.devices, job.nodes
    return job.devices or launch.per_node, max(job.nodes, launch.nodes)


def _ranks(job: Job) -> int:
    """How many processes train."""
    devices, nodes = _places(job)
    return nodes * (devices or max(1, torch.cuda.device_count()))


def _strategy(model: nn.Module, image: Input) -> str:
    """The strategy for DDP, which must be told if some parameter has no gradient."""
    trial = deepcopy(model).float()
    trial(torch.zeros(2, image.channels, image.height, image.width)).sum().backward()
    is_unused = any(each.requires_grad and each.grad is None for each in trial.parameters())
    return "ddp_find_unused_parameters_true" if is_unused else "ddp"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's messages about deliberate choices."""
    names = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
