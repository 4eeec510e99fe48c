"""The folder of a run: what was trained, how, and the results."""

from __future__ import annotations

import fcntl
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cliquegraph.data import Statistics, Treatment
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.diagnostics.location import printable
from cliquegraph.files import read_text, write_files
from cliquegraph.ir.storage import Array
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.training.checkpoints import Checkpoints
from cliquegraph.training.curves import Curves
from cliquegraph.training.job import Job, Source
from cliquegraph.training.logs import read_table
from cliquegraph.weights import write_weights

_Model = TypeVar("_Model", bound=BaseModel)

_LOCK = ".lock"
_FACTS = "run.json"
_EXTENDED = ("recipe.epochs", "recipe.milestones")
EPOCHS = "metrics.csv"
STEPS = "steps.csv"


class Facts(BaseModel):
    """The part of ``run.json`` that is parsed; the rest is for people and for ``--resume``."""

    model_config = ConfigDict(strict=True)

    recipe: Treatment
    """the preprocessing of the images"""
    data: Source
    """the images it was trained on"""
    statistics: Statistics
    """the statistics by which images were normalized"""
    classes: tuple[str, ...]
    """class names, by label"""
    seed: Annotated[int, Field(ge=0)]
    """the seed of all random choices"""
    level: Annotated[int, Field(ge=0)] | None = None
    """the -O level of the model"""
    channels_last: bool = False
    """the memory format of maps; older runs without this key were NCHW"""
    cudnn_benchmark: bool | None = None
    """whether cuDNN timed its algorithms"""


class Schedule(BaseModel):
    """The part of a run's recipe that ``--extend`` changes."""

    model_config = ConfigDict(strict=True)

    epochs: Annotated[int, Field(ge=1)]
    """the number of epochs"""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    """where the learning rate falls, fractions of the epochs"""


class _Scheduled(BaseModel):
    recipe: Schedule


class Run:
    """A folder with ``run.json``, ``spec.json``, the model's source, logs and weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self._lock: IO[str] | None = None

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.folder / _FACTS).is_file()

    @property
    def facts(self) -> Facts:
        """The parsed part of ``run.json``.

        Raises:
            UsageError: it is missing, unreadable, or was not written by a run.
        """
        return self._parsed(Facts)

    @property
    def schedule(self) -> Schedule:
        """The epochs of ``run.json`` and the learning rate's milestones.

        Raises:
            UsageError: as for ``facts``.
        """
        return self._parsed(_Scheduled).recipe

    def _parsed(self, model: type[_Model]) -> _Model:
        text = self._text()
        try:
            return model.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise self._damaged(f"{where}: {first['msg']}" if where else first["msg"]) from None

    def _text(self) -> str:
        text = read_text(self.folder / _FACTS)
        if text is None:
            raise UsageError(f"{self.folder} is not a run: it has no {_FACTS}")
        return text

    def _damaged(self, why: str) -> UsageError:
        return UsageError(f"{self.folder / _FACTS} was not written by a run: {why}")

    @property
    def measured(self) -> bool:
        """Whether an epoch is complete."""
        return bool(read_table(self.folder / EPOCHS))

    @property
    def curves(self) -> Curves:
        """The contents of ``metrics.csv``, by part.

        Raises:
            UsageError: there is no run, or none of its epochs is complete.
        """
        path = self.folder / EPOCHS
        rows = read_table(path)
        if not rows:
            raise UsageError(
                f"{path} has no complete epoch yet" if self.exists else f"no run: {path}"
            )
        parts = [name.removesuffix("_top1") for name in rows[0] if name.endswith("_top1")]
        try:
            return Curves(
                printable(self.folder.name),
                [int(row["epoch"]) + 1 for row in rows],
                {part: [float(row[f"{part}_loss"]) for row in rows] for part in parts},
                {part: [float(row[f"{part}_top1"]) for row in rows] for part in parts},
            )
        except (KeyError, ValueError) as error:
            raise UsageError(f"{path} was not written by a run: {error}") from None

    def start(
        self,
        job: Job,
        source: str,
        versions: Mapping[str, str],
        *,
        command: Sequence[str] = (),
        overrides: Sequence[str] = (),
        resume: bool = False,
    ) -> None:
        """Create and lock the folder, or check that it belongs to this job.

        Raises:
            UsageError: the run exists and ``resume`` is false; it belongs to another job; another
                process is using it; it can't be written.
        """
        if self.exists and not resume:
            raise UsageError(
                f"{self.folder} holds a run: --resume continues it, --out chooses another folder"
            )
        if not self.exists and self._foreign(f"{job.compilation.module_name}.py"):
            raise UsageError(f"{self.folder} is not empty and not a run: choose another --out")
        self._lock_folder()
        if self.exists:
            try:
                self._require_same(job)
            except UsageError:
                self.release()
                raise
            self._clear_partial()
            return
        facts = {
            **job.identity,
            **({} if job.initial is None else {"init_file": job.initial.file}),
            "devices": job.devices,
            "nodes": job.nodes,
            "cudnn_benchmark": job.cudnn_benchmark,
            "cuda_graph": job.cuda_graph,
            "overrides": list(overrides),
            "command": list(command),
            "versions": {**_versions(), **versions},
        }
        spec = job.compilation.network.to_data()
        write_files(
            {
                self.folder / "spec.json": json.dumps(spec, indent=2) + "\n",
                self.folder / f"{job.compilation.module_name}.py": source,
                # Last, since this file marks the folder as a run.
                self.folder / _FACTS: json.dumps(facts, indent=2) + "\n",
            }
        )

    def _foreign(self, model: str) -> bool:
        """Whether the folder holds files other than those of a run killed at its start."""
        written = (_FACTS, "spec.json", model)
        ours = (_LOCK, *written)
        left = self.folder.iterdir() if self.folder.is_dir() else ()
        partial = tuple(f".{name}." for name in written)  # temporary files
        return any(not (each.name in ours or each.name.startswith(partial)) for each in left)

    def _clear_partial(self) -> None:
        """Remove partial files of a killed process."""
        self.checkpoints.clear_partial()
        for name in ("*.safetensors", "*.csv"):
            for path in self.folder.glob(f".{name}.*"):
                path.unlink(missing_ok=True)

    def release(self) -> None:
        """Release the lock on the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def keep(self, network: NetworkSpec, name: str, tensors: Mapping[str, Array]) -> None:
        """Write canonical weights as ``NAME.safetensors``."""
        write_weights(network, tensors, self.folder / f"{name}.safetensors")

    def _require_same(self, job: Job) -> None:
        """Check that the run is this job's; record the epochs by which the job extends it."""
        try:
            facts = json.loads(self._text())
        except (ValueError, RecursionError) as error:
            raise self._damaged(str(error)) from None
        if isinstance(facts, dict):
            layout = Facts.model_fields["channels_last"].default
            facts = {"channels_last": layout, "freeze": [], **facts}
        requested = json.loads(json.dumps(job.identity))
        before = self.schedule
        recipe = job.recipe
        started = replace(recipe, epochs=before.epochs, milestones=before.milestones)
        extends = recipe.epochs > before.epochs and recipe == started.extended(recipe.epochs)
        differing = [
            f"{name} was {_get(facts, name)!r}, is now {value!r}"
            for name, value in _flat(requested)
            if _get(facts, name) != value and not (extends and name in _EXTENDED)
        ]
        if differing:
            more = recipe.epochs > before.epochs and not extends
            way = "; --extend trains further epochs, at the last learning rate" * more
            changes = "; ".join(differing)
            raise UsageError(f"{self.folder} belongs to another training: {changes}{way}")
        if extends:
            facts["recipe"] = requested["recipe"]
            write_files({self.folder / _FACTS: json.dumps(facts, indent=2) + "\n"})

    def _lock_folder(self) -> None:
        """Lock the folder; the lock of a killed process is released by the system."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / _LOCK).open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if isinstance(error, BlockingIOError):
                raise UsageError(f"another process is using {self.folder}") from None
            raise UsageError(f"can't write {self.folder}: {error.strerror}") from None


def _versions() -> dict[str, str]:
    import numpy

    from cliquegraph import __version__

    return {
        "cliquegraph": __version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "platform": platform.platform(),
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """All leaves, by their dotted names."""
    leaves: list[tuple[str, Any]] = []
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        leaves += _flat(value, f"{prefix}{name}.") if inner else [(prefix + name, value)]
    return leaves


def _get(values: Any, name: str) -> Any:
    for part in name.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values
