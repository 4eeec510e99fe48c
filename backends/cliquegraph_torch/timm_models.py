"""Generated models with timm's interface, in timm's registry."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, is_model, register_model
from timm.models._features import feature_take_indices
from timm.models._manipulate import MATCH_PREV_GROUP
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.emit.execute import load_source
from cliquegraph.ir.types import MapType, Param
from cliquegraph.plugins.backends import find_backend
from cliquegraph.spec.dump import dumps
from cliquegraph.spec.load import loads
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.weights import load_weights
from cliquegraph.weights.adapt import Sizes, file_sizes, image_kernel, resized
from cliquegraph_torch.naming import TorchLayout
from cliquegraph_torch.timm_prune import first_blocks

default_cfgs: dict[str, dict[str, Any]] = {}
"""timm's configurations of the registered models, by name; timm reads them here."""

_PREFIX = "cliquegraph_"


def register(network: NetworkSpec, *, name: str | None = None, weights: str | None = None) -> str:
    """Register a network in timm; see ``cliquegraph.timm.register``."""
    if network.readout.over_time:
        raise UsageError(
            f"{network.name} gives logits of every stage, timm's models of one: readout.stages=last"
        )
    if name is not None and not name.isidentifier():  # timm splits names at dots and colons
        raise UsageError(
            f"{name!r} can't be a name in timm: use letters, digits and _, such as {network.name}"
        )
    if weights is not None and not Path(weights).is_file():
        raise UsageError(f"{weights} is not a file of weights, which pretrained=True would load")
    entry = name or network.name
    if is_model(entry) and entry not in default_cfgs:
        if name is not None:
            raise UsageError(f"timm has a model {name!r} of its own: choose another name")
        entry = _PREFIX + entry

    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        model: nn.Module = build_model_with_cfg(
            partial(_model, network),
            entry,
            pretrained,
            feature_cfg={"feature_cls": "getter", "out_indices": tuple(range(len(network.blocks)))},
            **options,
        )
        return model

    known = entry in default_cfgs
    default_cfgs[entry] = _default_cfg(network, weights)
    create.__name__ = create.__qualname__ = entry
    with warnings.catch_warnings():
        if known:  # ours, registered again
            warnings.filterwarnings("ignore", message=f"Overwriting {entry} ")
        register_model(create)
    return entry


class TimmModel(nn.Module):
    """What timm expects of a model, over a generated class; names of tensors are the generated.

    ``forward_features`` returns the feature of the last block, (B, C, H, W), where the readout
    reads that alone; else the pooled vector of all blocks, (B, C, 1, 1). ``forward_head`` takes it.
    """

    generated: ClassVar[Any]
    """The generated class, or one of it that ends after a block."""
    network: ClassVar[NetworkSpec]
    source: ClassVar[str]
    kept: ClassVar[int | None] = None
    """How many blocks are computed; None for all."""
    feature_info: list[dict[str, Any]]
    num_features: int
    classifier: Any

    def __init__(
        self,
        num_classes: int,
        global_pool: str | None = None,
        drop_rate: float = 0.0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        network = self.network
        with nullcontext() if device is None else torch.device(device):
            self.generated.__init__(self, max(num_classes, 1))
        self.in_chans = network.input.channels
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.feature_info = feature_info(network)
        self.head_hidden_size = int(self.classifier.in_features)
        self.num_classes = num_classes
        reads_last = network.readout.blocks == "last" or len(network.blocks) == 1
        self._read = [len(network.blocks)] if reads_last else range(1, len(network.blocks) + 1)
        is_map = len(self._read) == 1
        self.num_features = self.feature_info[-1]["num_chs"] if is_map else self.head_hidden_size
        self.global_pool: str = network.readout.pool
        if num_classes == 0 or global_pool is not None:
            self.reset_classifier(num_classes, global_pool)
        if dtype is not None:
            self.to(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (_text(self.network), self.kept), self.__dict__.copy()

    # ---- the head -------------------------------------------------------------------

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        module: nn.Module = self.classifier
        return module

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer; ``num_classes`` 0 removes it, ``global_pool=""`` the pool too."""
        if global_pool is not None:
            pool = self.network.readout.pool
            if global_pool not in ("", pool):
                raise ValueError(
                    f"the global pool is declared in the spec: {pool!r}, or '' for none"
                )
            self.global_pool = global_pool
        self.num_classes = num_classes
        if not num_classes:
            self.classifier = nn.Identity()
        else:
            like = next(self.parameters())
            classifier = nn.Linear(
                self.head_hidden_size, num_classes, device=like.device, dtype=like.dtype
            )
            nn.init.xavier_uniform_(classifier.weight)
            nn.init.zeros_(classifier.bias)
            self.classifier = classifier
        self.classifier.train(self.training)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of what ``forward_features`` returned, or what the classifier reads."""
        if self.global_pool:
            x = x.flatten(1) if len(self._read) > 1 else self._pooled([x])
        if self.drop_rate:
            x = F.dropout(x, self.drop_rate, self.training)
        if pre_logits:
            return x
        if self.num_classes and not self.global_pool:
            pool = self.network.readout.pool
            raise ValueError(f"without a pool there are no logits: reset_classifier(n, {pool!r})")
        logits: Tensor = self.classifier(x)
        return logits

    def _pooled(self, features: Sequence[Tensor]) -> Tensor:
        vectors = []
        for block, feature in zip(self._read, features, strict=True):
            readout = getattr(self, f"readout{block}", None)
            if readout is not None:
                vectors.append(readout(feature))
            elif self.network.readout.pool == "max":
                vectors.append(feature.amax((2, 3)))
            else:
                vectors.append(feature.mean((2, 3)))
        return torch.cat(vectors, 1) if len(vectors) > 1 else vectors[0]

    # ---- features -------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images, (batch, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor, *versions: Any) -> Any:
        """Return what ``forward_head`` takes; with ``versions``, what the generated class does."""
        if versions:  # called by its ``activations``
            return self.generated.forward_features(self, x, *versions)
        if len(self._read) == 1 and hasattr(self.generated, "gather"):
            return self.generated.gather(self, x)[-1]  # does not concatenate other features
        return self._for_head(self.generated.forward_features(self, x))

    def _for_head(self, features: Sequence[Tensor]) -> Tensor:
        if len(self._read) == 1:
            return features[-1]
        return self._pooled(features)[:, :, None, None]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Return block features, alone or after what ``forward_features`` returns.

        Args:
            x: images.
            indices: which blocks, from 0; the last n if an integer; None for all.
            norm: has no effect: readouts normalize each block's feature differently.
            stop_early: has no effect: all blocks are computed.
            output_fmt: NCHW.
            intermediates_only: return the block features alone.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"features are NCHW, not {output_fmt}")
        chosen, _ = feature_take_indices(len(self.feature_info), indices)
        features = self.generated.forward_features(self, x)
        intermediates = [features[index] for index in chosen]
        return intermediates if intermediates_only else (self._for_head(features), intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the features of some blocks do not need, and return their indices from 0.

        Blocks after the last of them go, and with them the head; ``forward_features`` then returns
        the feature of that block, also where the readout had read several.

        Args:
            indices: which blocks; the last n if an integer.
            prune_norm: has no effect: a normalization of a readout belongs to the head.
            prune_head: remove classifier and readouts even where the last block is kept.
        """
        chosen: list[int]
        chosen, last = feature_take_indices(len(self.feature_info), indices)
        if last + 1 < len(self.feature_info):
            prune_head = True
            self._end_after(last + 1)
        if prune_head:
            for name in [each for each, _ in self.named_children() if each.startswith("readout")]:
                delattr(self, name)
            self._read = [last + 1]
            self.num_features = self.head_hidden_size = self.feature_info[-1]["num_chs"]
            self.reset_classifier(0, "")
        return chosen

    def _end_after(self, count: int) -> None:
        self.feature_info = self.feature_info[:count]
        self.__class__ = _ended_class(_text(self.network), count)
        kept = {"classifier", *self.generated.parts}
        for name in [each for each, _ in self.named_children() if each not in kept]:
            if name.startswith("block"):
                setattr(self, name, nn.Identity())  # read by ``compile_steps``
            else:
                delattr(self, name)

    # ---- training -------------------------------------------------------------------

    @torch.jit.ignore  # type: ignore[untyped-decorator]  # PyTorch's
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return how parameters are grouped by depth: stem, blocks, head."""
        blocks = r"^(?:block|transition)(\d+)"
        fine = [(r"^block(\d+)", None), (r"^transition(\d+)", MATCH_PREV_GROUP)]
        return {"stem": r"^stem", "blocks": blocks if coarse else fine}

    @torch.jit.ignore  # type: ignore[untyped-decorator]  # PyTorch's
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass, or no longer."""
        self.grad_checkpointing = enable
        for number in range(1, len(self.feature_info) + 1):
            block: Any = getattr(self, f"block{number}")
            if enable:
                block.forward = _Checkpointed(block)
            else:
                block.__dict__.pop("forward", None)

    def load_pretrained(self, path: str, prefix: str = "") -> None:
        """Load weights in any format; timm calls it for ``pretrained=True``."""
        classifier, sizes = self.classifier, file_sizes(self.network, Path(path))
        skips = self.num_classes != sizes.classes
        if not self.num_classes:
            self.classifier = nn.Linear(self.head_hidden_size, self.network.classifier.classes)
        try:
            load_weights(
                self, self.network, path, head="skip" if skips else "load", channels="adapt"
            )
        finally:
            self.classifier = classifier


class _Checkpointed:
    """The forward pass of a block, recomputed in the backward pass."""

    def __init__(self, block: nn.Module) -> None:
        self._block = block

    def __call__(self, *inputs: Any) -> Any:
        forward = partial(type(self._block).forward, self._block)
        if not torch.is_grad_enabled():
            return forward(*inputs)
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still_statistics(self._block)


@contextmanager
def _still_statistics(block: nn.Module) -> Iterator[None]:
    """Leave running statistics as they are: they have moved in the forward pass."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def feature_info(network: NetworkSpec) -> list[dict[str, Any]]:
    """Return channels and reduction of each block's feature, as timm lists them."""
    return [
        {
            "num_chs": feature.channels,
            "reduction": network.input.height // feature.height,
            "module": f"block{number}",
        }
        for number, feature in enumerate(_features(network), 1)
    ]


def _features(network: NetworkSpec) -> list[MapType]:
    types = [feature.type for feature in Compilation(network).lowered.features]
    return [each for each in types if isinstance(each, MapType)]


def _default_cfg(network: NetworkSpec, weights: str | None) -> dict[str, Any]:
    image, graph = network.input, Compilation(network).lowered
    kernel = image_kernel(graph)
    last = _features(network)[-1]
    is_map = network.readout.blocks == "last" or len(network.blocks) == 1
    colors = image.channels == len(IMAGENET_DEFAULT_MEAN)
    is_imagenet = network.training is not None and network.training.recipe == "imagenet" and colors
    return {
        **({} if weights is None else {"file": weights, "custom_load": True}),
        "input_size": (image.channels, image.height, image.width),
        "num_classes": network.classifier.classes,
        "pool_size": (last.height, last.width) if is_map else (1, 1),
        "mean": IMAGENET_DEFAULT_MEAN if is_imagenet else (0.0,) * image.channels,
        "std": IMAGENET_DEFAULT_STD if is_imagenet else (1.0,) * image.channels,
        "interpolation": "bilinear",
        "crop_pct": 0.875,
        "first_conv": None if kernel is None else _module_of(graph.params, kernel),
        "classifier": "classifier",
    }


def _module_of(params: Sequence[Param], tensor: object) -> str:
    (param,) = (p for p in params if tensor in [piece.tensor for piece in p.pieces])
    return TorchLayout().name(param).removesuffix(".weight")


def _model(
    network: NetworkSpec, num_classes: int | None = None, in_chans: int | None = None, **how: Any
) -> TimmModel:
    classes = network.classifier.classes if num_classes is None else num_classes
    model: TimmModel = _class(_text(resized(network, Sizes(None, in_chans))))(classes, **how)
    return model


def _text(network: NetworkSpec) -> str:
    return dumps(network)


@lru_cache(maxsize=64)
def _class(text: str) -> Any:
    """The class of a network, compiled once: copies and pickles of a model are of it."""
    network = loads(text)
    source = Compilation(network).source(find_backend("torch"))
    name = f"cliquegraph_timm_{network.name}_{sha256(text.encode()).hexdigest()[:12]}"
    module = load_source(source, name)
    sys.modules[name] = module  # where pickle looks for the classes of its parts
    generated = getattr(module, network.python_class)
    members = {"generated": generated, "network": network, "source": source}
    return type(network.python_class, (TimmModel, generated), {**members, "__module__": __name__})


@lru_cache(maxsize=64)
def _ended_class(text: str, kept: int) -> Any:
    whole = _class(text)
    generated = first_blocks(whole.generated, whole.source, kept)
    members = {"generated": generated, "network": whole.network, "kept": kept}
    return type(whole.__name__, (TimmModel, generated), {**members, "__module__": __name__})


def _blank(text: str, kept: int | None = None) -> Any:
    model_class: Any = _class(text) if kept is None else _ended_class(text, kept)
    return model_class.__new__(model_class)
