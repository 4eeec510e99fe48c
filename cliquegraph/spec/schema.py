"""The spec language, version 1: frozen, strict models of what a network declares.

These are its sections and their limits; ``network.py`` has the whole.

Each block kind is one class of a discriminated union. Rules that join several keys of one
section are checked here and point at the key that breaks them; rules that need a size (a map
pooled to nothing) belong to ``ir/ops.py`` and are checked when the network is lowered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from cliquegraph.diagnostics.codes import Code
from cliquegraph.spec.figure import FIGURE_PATTERN, Figure

LANGUAGE_VERSION = 1

Path = tuple[str | int, ...]
"""A place inside a spec, such as ``("blocks", 0, "filters")``."""

# Far above any network that fits a machine, far below what would hang the compiler.
MAX_CHANNELS = 65_536
MAX_LAYERS = 256
MAX_STAGES = 64
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
    """Return one error that holds several, for a validator can raise no more than one."""
    rules = [each.context or {} for each in faults]
    message = "; ".join(f"{'.'.join(map(str, rule['path']))}: {rule['message']}" for rule in rules)
    return PydanticCustomError("spec_rules", "{message}", {"message": message, "rules": rules})


_impossible = partial(fault, code=Code.SCHEDULE)


def set_by(constant: str, module: str = __name__) -> str:
    """Say where a maximum is set, for the network that does need more."""
    return f"{constant} in {module} sets the maximum"


def _upto(constant: str) -> Any:
    """Return the field of a count from 1 to a constant of this module."""
    most = globals()[constant]
    return Field(ge=1, le=most, json_schema_extra={"$comment": set_by(constant)})


PrintedFigure = Annotated[str, Field(pattern=FIGURE_PATTERN)] | Annotated[int, Field(ge=0)]

Channels = Annotated[int, _upto("MAX_CHANNELS")]
Pixels = Annotated[int, _upto("MAX_PIXELS")]
Kernel = Annotated[int, _upto("MAX_KERNEL")]
Rate = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Factor = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise fault(f"a kernel of {kernel} has no middle; use an odd size")
    return kernel


OddKernel = Annotated[
    Kernel, AfterValidator(_odd), Field(json_schema_extra={"not": {"multipleOf": 2}})
]


class SpecModel(BaseModel):
    """Base of every section: unknown keys and near-miss types are refused."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )


class Input(SpecModel):
    """The images: channels × height × width."""

    channels: Channels
    """colour channels of an image"""
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
    """step of the window"""


class Stem(SpecModel):
    """What turns an image into X0 of the first block: convolution, [BN, ReLU], [pool]."""

    filters: Channels
    """channels of X0 of the first block"""
    kernel: OddKernel = 3
    """size of the convolution's kernel, padded by half of it"""
    stride: Kernel = 1
    """stride of the convolution"""
    norm: bool = False
    """batch normalisation and ReLU after the convolution"""
    pool: Pool | None = None
    """a pooling layer at the end"""
    init: Init = "fan_in"
    """He initialization of the convolution by its fan-in, or by its fan-out as in ResNets"""


class CliqueBlock(SpecModel):
    """A clique: every two layers connected both ways, updated in stages (section 3.1)."""

    kind: Literal["clique"] = "clique"
    """the kind of block"""
    layers: Annotated[int, _upto("MAX_LAYERS")]
    """n, the number of layers X1..Xn"""
    filters: Channels
    """k, the channels of each layer"""
    kernel: OddKernel = 3
    """size of the spatial kernel"""
    bottleneck: bool = False
    """W(i→j) becomes 1×1 and a spatial V(j), k→k, follows (section 3.3)"""
    dropout: Rate = 0.0
    """rate, after every convolution of a unit"""
    unit: Literal["pre_activation", "post_activation"] = "pre_activation"
    """BN–ReLU–convolution, or convolution–BN–ReLU as Eq. (1) is written"""
    stages: Annotated[int, _upto("MAX_STAGES")] = 2
    """how often the layers are visited; stage 1 initialises them from X0"""
    update: Literal["alternate", "simultaneous"] = "alternate"
    """read the newest version of every other layer, or the previous stage's"""
    order: Literal["ascending", "descending"] | tuple[int, ...] = "ascending"
    """the order in which layers are visited, in every stage"""
    last_stage_updates: Annotated[int, Field(ge=0)] | None = None
    """how many layers the last stage visits; default: all"""
    feature: Annotated[int, Field(ge=1)] | None = None
    """the stage whose layers, with X0, are the block feature; default: the last"""
    transit: Annotated[int, Field(ge=1)] | None = None
    """the stage whose layers go on to the next block; default: the last"""
    norm_per_stage: bool = True
    """own batch normalisation for each stage; false: stages from 3 on re-use stage 2's"""

    @field_validator("order", mode="before")
    @classmethod
    def _order_is_a_tuple(cls, order: object) -> object:
        return tuple(order) if isinstance(order, list) else order

    @model_validator(mode="after")
    def _schedule_is_possible(self) -> Self:
        if faults := list(self._faults_of_the_schedule()):
            raise together(faults)
        return self

    def _faults_of_the_schedule(self) -> Iterator[PydanticCustomError]:
        n, stages = self.layers, self.stages
        if isinstance(self.order, tuple) and sorted(self.order) != list(range(1, n + 1)):
            yield _impossible(f"must name each of the layers 1 to {n} once", "order")
        updates = self.last_stage_updates
        if updates is not None and updates > n:
            yield _impossible(f"must be between 0 and layers, {n}", "last_stage_updates")
        if updates is not None and updates < n and stages == 1:
            yield _impossible(
                f"must be {n} in a block of one stage: stage 1 initialises every layer",
                "last_stage_updates",
            )
        for key in ("feature", "transit"):
            stage = getattr(self, key)
            if stage is not None and stage > stages:
                yield _impossible(f"must be a stage of the block, 1 to {stages}", key)
        if n == 1 and stages > 1 and (stages > 2 or updates != 0):
            yield _impossible(
                "must be at least 2, or stages 1: in stage 2 a single layer has none to read",
                "layers",
            )

    @property
    def reads(self) -> int:
        """layers × layers × stages: an upper bound on the features that the updates read."""
        return self.stages * self.layers**2

    @property
    def visiting_order(self) -> tuple[int, ...]:
        """The layers in the order of their visits, whatever way the spec spells it."""
        if isinstance(self.order, tuple):
            return self.order
        ascending = tuple(range(1, self.layers + 1))
        return ascending if self.order == "ascending" else ascending[::-1]

    @property
    def feature_stage(self) -> int:
        """The stage of the block feature."""
        return self.stages if self.feature is None else self.feature

    @property
    def transit_stage(self) -> int:
        """The stage of what goes on to the next block."""
        return self.stages if self.transit is None else self.transit

    def updates_in(self, stage: int) -> int:
        """How many layers ``stage`` visits."""
        if stage < self.stages or self.last_stage_updates is None:
            return self.layers
        return self.last_stage_updates

    def norm_stage(self, stage: int) -> int:
        """The stage whose batch normalisation a unit of ``stage`` uses."""
        return stage if self.norm_per_stage else min(stage, 2)


def _bottleneck_factor(value: object) -> object:
    # Equal to false and true as Python compares, but no way to write them.
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 1:
        raise fault("the factor of a dense bottleneck is at least 1; write false for none")
    if value is True:
        raise fault("give the factor of a dense bottleneck as a number; DenseNet's is 4")
    return value


class DenseBlock(SpecModel):
    """A dense block (DenseNet, CVPR 2017): each layer reads all before it, once."""

    kind: Literal["dense"]
    """the kind of block"""
    layers: Annotated[int, _upto("MAX_LAYERS")]
    """the number of layers"""
    filters: Channels
    """k, the growth rate"""
    bottleneck: Annotated[
        Literal[False] | Annotated[int, _upto("MAX_BOTTLENECK")],
        BeforeValidator(_bottleneck_factor),
    ] = False
    """false, or f for a 1×1 convolution to f·k channels first (DenseNet-B: 4)"""
    dropout: Rate = 0.0
    """rate, after every convolution of a layer"""

    @property
    def reads(self) -> int:
        """layers × layers: an upper bound on the features that the layers read."""
        return self.layers**2


class ResidualBlock(SpecModel):
    """A block of residual units (ResNet, CVPR 2016): each adds to what it reads."""

    kind: Literal["residual"]
    """the kind of block"""
    layers: Annotated[int, _upto("MAX_LAYERS")]
    """the number of units"""
    filters: Channels
    """k, the channels of the 3×3 convolutions; a bottleneck writes 4·k"""
    unit: Literal["basic", "bottleneck"] = "basic"
    """two 3×3 convolutions, or 1×1, 3×3 and 1×1 to 4·k channels"""
    stride: Kernel = 1
    """stride of the first unit"""
    reduce_in: Literal["spatial", "first"] = "spatial"
    """which convolution of a bottleneck has the stride: the 3×3, or the first 1×1"""
    shortcut: Literal["projection", "pad"] = "projection"
    """where sizes differ: 1×1 convolution and BN, or average pool and maps of zeros"""
    zero_init: bool = False
    """the scale of each unit's last BN starts at 0, so that a unit starts as its shortcut"""
    init: Init = "fan_out"
    """He initialization by fan-out, as in the ResNets' code, or by fan-in"""

    @property
    def reads(self) -> int:
        """layers: what the units read."""
        return self.layers


Block = Annotated[CliqueBlock | DenseBlock | ResidualBlock, Field(discriminator="kind")]


class Transition(SpecModel):
    """Between two blocks: BN, ReLU, 1×1 convolution, [attention], 2×2 pool (section 3.3)."""

    attention: bool = False
    """channel-wise attention after the convolution (Figure 4)"""
    compression: Factor = 1.0
    """factor on the channels of the convolution's output, rounded down"""
    pool: Literal["avg", "max"] = "avg"
    """the 2×2 pool, stride 2"""
    dropout: Rate = 0.0
    """rate, after the convolution and before the attention"""


class Readout(SpecModel):
    """From block features to the classifier: [compression], BN, ReLU, global average pool."""

    blocks: Literal["all", "last"] = "all"
    """the blocks whose features are read: multi-scale (section 3.2), or DenseNet's last"""
    compression: Factor | None = None
    """BN, ReLU, 1×1 convolution to this share of the channels first, rounded down"""
    dropout: Rate = 0.0
    """rate, after the convolution of the compression"""
    norm: bool = True
    """BN and ReLU before the global average pool; false: straight to it"""

    @model_validator(mode="after")
    def _compresses_what_is_normalized(self) -> Self:
        if self.compression is not None and not self.norm:
            raise fault(
                "can't be given with norm: false, which goes straight to the global pool",
                "compression",
                hint="leave out one of the two",
            )
        return self


class Classifier(SpecModel):
    """One fully connected layer."""

    classes: Annotated[int, _upto("MAX_CLASSES")]
    """the number of classes"""


class Training(SpecModel):
    """The paper's training recipe (section 4.1), with what this network changes in it."""

    recipe: Literal["cifar", "svhn", "imagenet"]
    """the recipe to start from"""
    epochs: Annotated[int, _upto("MAX_EPOCHS")] | None = None
    """passes over the training set"""
    batch_size: Annotated[int, _upto("MAX_BATCH")] | None = None
    """images in a batch"""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """initial learning rate"""
    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    """Nesterov momentum"""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """on all parameters"""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = None
    """shares of the epochs at which the learning rate is multiplied by decay, ascending"""
    decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """what the learning rate is multiplied by at each milestone"""
    normalisation: Literal["standard", "unit", "imagenet"] | None = None
    """of images: by the training set's mean and std, by 255, or by ImageNet's figures"""
    augmentation: Literal["none", "pad_crop_flip", "resized_crop_flip"] | None = None
    """of training images"""

    @field_validator("milestones", mode="before")
    @classmethod
    def _milestones_are_a_tuple(cls, milestones: object) -> object:
        return tuple(milestones) if isinstance(milestones, list) else milestones

    @field_validator("milestones")
    @classmethod
    def _milestones_ascend(cls, milestones: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if milestones is not None and list(milestones) != sorted(set(milestones)):
            raise fault("expected ascending shares of the epochs, e.g. [0.5, 0.75]")
        return milestones

    def changes(self) -> dict[str, object]:
        """What is declared beside the recipe's name, by key."""
        return self.model_dump(exclude={"recipe"}, exclude_none=True)


class Expect(SpecModel):
    """The figures that the network must have; ``compile`` and ``check`` fail otherwise."""

    parameters: PrintedFigure | None = None
    """trainable parameters, each shared kernel once"""
    macs: PrintedFigure | None = None
    """multiply–accumulates of one image"""
    flops: PrintedFigure | None = None
    """2 × MACs"""

    def figures(self) -> dict[str, Figure]:
        """The figures that are declared, by key."""
        stated = {key: getattr(self, key) for key in type(self).model_fields}
        return {key: Figure(str(value)) for key, value in stated.items() if value is not None}
