"""The spec language, version 1: frozen, strict models of what a network declares.

This module has its sections and their limits; ``network.py`` has the whole network.

The keys of blocks are declared with their kinds, in ``blocks/``. Rules about several keys of one
section are checked here and point at the key that violates them; rules that need a shape (a map
pooled to nothing) belong to ``ir/ops.py`` and are checked when the network is lowered.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
)
from pydantic_core import PydanticCustomError

from cliquegraph.diagnostics.codes import Code
from cliquegraph.spec.figure import FIGURE_PATTERN, Figure

LANGUAGE_VERSION = 1

Path = tuple[str | int, ...]
"""A path inside a spec, such as ``("blocks", 0, "filters")``."""

# Far above any network that fits on a machine, far below what would hang the compiler.
MAX_CHANNELS = 65_536
MAX_LAYERS = 256
MAX_STAGES = 64
MAX_COLUMNS = 7
MAX_BLOCKS = 64
MAX_PIXELS = 16_384
MAX_CLASSES = 10_000_000
MAX_KERNEL = 63
MAX_BOTTLENECK = 64
MAX_READS = 100_000
MAX_EPOCHS = 100_000
MAX_BATCH = 10_000_000


def fault(
    message: str, *path: str | int, code: Code = Code.WRONG_VALUE, hint: str | None = None
) -> PydanticCustomError:
    """Return an error about the key at ``path`` below the model that raises it."""
    context = {"message": message, "path": path, "code": code, "hint": hint}
    return PydanticCustomError("spec_rule", "{message}", context)


def together(faults: Iterable[PydanticCustomError]) -> PydanticCustomError:
    """Return one error that holds several, since a validator can raise only one."""
    rules = [each.context or {} for each in faults]
    message = "; ".join(f"{'.'.join(map(str, rule['path']))}: {rule['message']}" for rule in rules)
    return PydanticCustomError("spec_rules", "{message}", {"message": message, "rules": rules})


impossible = partial(fault, code=Code.SCHEDULE)
"""An error about keys that contradict each other in a schedule."""


def set_by(constant: str, module: str = __name__) -> str:
    """Return a hint on where a maximum is set, for a network that needs more."""
    return f"{constant} in {module} sets the maximum"


def up_to(constant: str) -> Any:
    """Return the field of a count from 1 to a constant of this module."""
    most = globals()[constant]
    return Field(ge=1, le=most, json_schema_extra={"$comment": set_by(constant)})


LABEL_PATTERN = r"^[A-Za-z][A-Za-z0-9_]*$"
"""A name in drawings."""

PrintedFigure = Annotated[str, Field(pattern=FIGURE_PATTERN)] | Annotated[int, Field(ge=0)]

Channels = Annotated[int, up_to("MAX_CHANNELS")]
Pixels = Annotated[int, up_to("MAX_PIXELS")]
Kernel = Annotated[int, up_to("MAX_KERNEL")]
Rate = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Factor = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise fault(f"a kernel of size {kernel} has no center; use an odd size")
    return kernel


OddKernel = Annotated[
    Kernel, AfterValidator(_odd), Field(json_schema_extra={"not": {"multipleOf": 2}})
]


class SpecModel(BaseModel):
    """Base of every section: unknown keys and implicit type conversions are rejected."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )


class Input(SpecModel):
    """The images: channels × height × width."""

    channels: Channels
    """color channels of an image"""
    height: Pixels
    """pixels"""
    width: Pixels
    """pixels"""


Init = Literal["fan_in", "fan_out"]


class Pool(SpecModel):
    """A pooling layer of the stem.

    Max pooling pads by ``(kernel - 1) // 2`` as in the ImageNet stem (section 3.4 of the
    paper); average pooling does not pad.
    """

    kind: Literal["max", "avg"]
    """max or avg"""
    kernel: Kernel
    """size of the window"""
    stride: Kernel
    """stride of the window"""


class Stem(SpecModel):
    """The stem, from an image to X0 of the first block: convolution, [BN, ReLU], [pool]."""

    filters: Channels
    """channels of X0 of the first block"""
    kernel: OddKernel = 3
    """kernel size of the convolution, padded by half of it"""
    stride: Kernel = 1
    """stride of the convolution"""
    norm: bool = False
    """batch normalization and ReLU after the convolution"""
    pool: Pool | None = None
    """a pooling layer at the end"""
    init: Init = "fan_in"
    """He initialization of the convolution by its fan-in, or by its fan-out as in ResNets"""


class BlockSpec(SpecModel):
    """The declaration of a block. Each kind has its own class, in its own file (``blocks/``)."""

    kind: str
    """the kind of block; the class of a kind has the ``Literal`` of its name"""

    @property
    @abstractmethod
    def reads(self) -> int:
        """An upper bound on the features that the updates read; see ``MAX_READS``."""

    @property
    def column_share(self) -> tuple[float, Path] | None:
        """The share of the batches that keep one column of the network, and the path of its key.

        None for a block that always keeps all.
        """
        return None


class Transition(SpecModel):
    """Between two blocks: BN, ReLU, 1×1 convolution, [attention], 2×2 pool (section 3.3)."""

    attention: bool = False
    """channel-wise attention after the convolution (Figure 4)"""
    compression: Factor = 1.0
    """factor by which the convolution reduces the channels, rounded down"""
    pool: Literal["avg", "max"] = "avg"
    """the 2×2 pool, stride 2"""
    dropout: Rate = 0.0
    """dropout rate after the convolution and before the attention"""


class Classifier(SpecModel):
    """One fully connected layer."""

    classes: Annotated[int, up_to("MAX_CLASSES")]
    """the number of classes"""


class Training(SpecModel):
    """The paper's training recipe (section 4.1), with this network's changes."""

    recipe: Literal["cifar", "svhn", "imagenet"]
    """the recipe to start from"""
    epochs: Annotated[int, up_to("MAX_EPOCHS")] | None = None
    """passes over the training set"""
    batch_size: Annotated[int, up_to("MAX_BATCH")] | None = None
    """images in a batch"""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """initial learning rate"""
    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    """Nesterov momentum"""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """on all parameters"""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = None
    """fractions of the epochs at which the learning rate is multiplied by decay, ascending"""
    decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """factor of the learning rate at each milestone"""
    normalisation: Literal["standard", "unit", "imagenet"] | None = None
    """of images: by the training set's mean and std, by 255, or by ImageNet's statistics"""
    augmentation: Literal["none", "pad_crop_flip", "resized_crop_flip"] | None = None
    """augmentation of training images"""
    stage_weights: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] | None = None
    """of a readout over time, the weight of each stage in the loss, from the first that is read;
    default: equal ones"""

    @field_validator("milestones", "stage_weights", mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: object) -> object:
        return tuple(values) if isinstance(values, list) else values

    @field_validator("stage_weights")
    @classmethod
    def _some_stage_counts(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if weights is not None and not sum(weights):
            raise fault("expected a weight other than 0, e.g. [0, 0, 1]")
        return weights

    @field_validator("milestones")
    @classmethod
    def _milestones_ascend(cls, milestones: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if milestones is not None and list(milestones) != sorted(set(milestones)):
            raise fault("expected ascending fractions of the epochs, e.g. [0.5, 0.75]")
        return milestones

    def changes(self) -> dict[str, object]:
        """The declared changes to the recipe, by key."""
        return self.model_dump(exclude={"recipe"}, exclude_none=True)


class Expect(SpecModel):
    """Expected figures of the network; ``compile`` and ``check`` fail if one differs."""

    parameters: PrintedFigure | None = None
    """trainable parameters, each shared kernel once"""
    macs: PrintedFigure | None = None
    """multiply–accumulates of one image"""
    flops: PrintedFigure | None = None
    """2 × MACs"""

    def figures(self) -> dict[str, Figure]:
        """The declared figures, by key."""
        declared = {key: getattr(self, key) for key in type(self).model_fields}
        return {key: Figure(str(value)) for key, value in declared.items() if value is not None}
