"""Runs generated Flax models, for verification."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from cliquegraph.emit.execute import (
    all_kept,
    drop_paths,
    load_source,
    named_values,
    require_nothing_kept,
    watch,
)
from cliquegraph.ir.graph import Graph
from cliquegraph.ir.storage import Array, Labels, from_storage, to_storage
from cliquegraph.ir.types import Param
from cliquegraph.plugins.backends import Outputs, Sgd
from cliquegraph.weights.layout import canonical, turned
from cliquegraph_flax.live import LiveModel, blank
from cliquegraph_flax.loss import mean_cross_entropy
from cliquegraph_flax.naming import FlaxLayout

_LAYOUT = FlaxLayout()

# A check runs each program a few times: compiling takes longer than running.
_QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class FlaxExecutor:
    """A generated model on JAX's default device, without dropout, with set drop-path masks."""

    def __init__(self, source: str, class_name: str, graph: Graph, dtype: str) -> None:
        self._module = load_source(source, f"cliquegraph_generated_{graph.name}")
        self._dtype = dtype
        self._graph = graph
        create = getattr(self._module, class_name)
        with jax.enable_x64(True):
            self._model = blank(lambda: create(rngs=nnx.Rngs(0), dtype=dtype, param_dtype=dtype))
            sgd = Sgd()
            self._rule = optax.chain(
                optax.add_decayed_weights(sgd.weight_decay),
                optax.sgd(sgd.learning_rate, sgd.momentum, nesterov=True),
            )
            self._momentum = self._rule.init(nnx.state(self._model, nnx.Param))
        # Separate programs, which JAX frees with the executor, so that a process that checks
        # thousands of networks does not run out of memory.
        self._forward = _compiled(_forward, static_argnums=0)
        self._loss_and_gradient = _compiled(_loss_and_gradient, static_argnums=1)
        self._update = _compiled(self._updated)
        for _, module in nnx.iter_modules(self._model):
            if isinstance(module, nnx.Dropout):
                module.rate = 0.0
        self._drop_paths = drop_paths(graph)
        for kind in {type(self._find(path)) for path in self._drop_paths}:
            kind.__call__ = _return_mask(kind.__call__)
        self.set_masks(all_kept(graph))

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Set every parameter and running statistic, and forget the optimizer's state."""
        live = LiveModel(self._model)
        with jax.enable_x64(True):
            for param, array in to_storage(self._graph, tensors).items():
                live.write(_LAYOUT.name(param), turned(_LAYOUT, param, array))
            self._momentum = self._rule.init(nnx.state(self._model, nnx.Param))

    def tensors(self) -> dict[str, Array]:
        """Return every parameter and running statistic."""
        live = LiveModel(self._model)
        storage = {
            param: canonical(_LAYOUT, param, live.read(_LAYOUT.name(param)).astype(np.float64))
            for param in self._graph.params
        }
        return from_storage(storage)

    def set_masks(self, masks: Sequence[Array]) -> None:
        """Set what drop-path draws in training."""
        for path, mask in zip(self._drop_paths, masks, strict=True):
            self._find(path).mask = tuple(mask.ravel())  # constants of the programs

    def round_at_random(self, seed: int) -> None:
        """Do nothing: XLA executes a whole step at once."""

    def parameters(self) -> int:
        """Count the trainable parameters of the model as its framework does."""
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(self._model, nnx.Param)))

    def forward(self, images: Array, *, training: bool) -> Outputs:
        """Run a forward pass; in training, it updates running statistics."""
        _set_mode(self._model, training)
        definition, state = nnx.split(self._model)
        with jax.enable_x64(True):
            logits, features, state = self._forward(definition, state, self._input(images))
        nnx.update(self._model, state)
        return Outputs(_array(logits), tuple(_channels_first(feature) for feature in features))

    def activations(self, images: Array) -> dict[str, Array]:
        """Return each version of each layer in evaluation, by name."""
        _set_mode(self._model, False)
        with jax.enable_x64(True):
            versions = self._model.activations(self._input(images))
        return {name: _channels_first(maps) for name, maps in versions.items()}

    def gradients(self, images: Array, labels: Labels) -> tuple[float, dict[str, Array]]:
        """Return the mean cross entropy in training and the gradients of all parameters."""
        loss, state = self._backward(images, labels)
        gradients: dict[Param, Array] = {}
        for param in self._graph.params:
            if param.field.trainable:
                entry: Any = state
                for name in _LAYOUT.name(param).split("."):
                    entry = entry[name]
                gradients[param] = canonical(_LAYOUT, param, _array(entry[...]))
        return loss, from_storage(gradients)

    def sgd_step(self, images: Array, labels: Labels) -> float:
        """Take one SGD step of ``Sgd()``; return the loss before it."""
        loss, gradients = self._backward(images, labels)
        parameters = nnx.state(self._model, nnx.Param)
        with jax.enable_x64(True):
            parameters, self._momentum = self._update(gradients, self._momentum, parameters)
        nnx.update(self._model, parameters)
        return loss

    def trace(self, images: Array, *, training: bool) -> dict[tuple[str, str], Array]:
        """Return the named values of one forward pass by section and name."""
        _set_mode(self._model, training)
        sections = {
            id(module): ".".join(map(str, path)) for path, module in nnx.iter_modules(self._model)
        }
        values: dict[tuple[str, str], Array] = {}
        with jax.enable_x64(True):
            for owner, variables in watch(self._module, lambda: self._model(self._input(images))):
                for name, value in variables.items():
                    if isinstance(value, jax.Array) and id(owner) in sections:
                        array = _channels_first(value) if value.ndim == 4 else _array(value)
                        values[sections[id(owner)], name] = array
        return named_values(self._graph, values)

    def _find(self, path: str) -> Any:
        return reduce(getattr, path.split("."), self._model)

    def _updated(self, gradients: Any, momentum: Any, parameters: Any) -> tuple[Any, Any]:
        """Parameters and momentum after a step."""
        changes, momentum = self._rule.update(gradients, momentum, parameters)
        return optax.apply_updates(parameters, changes), momentum

    def _input(self, images: Array) -> jax.Array:
        return jnp.asarray(np.transpose(images, (0, 2, 3, 1)), self._dtype)

    def _backward(self, images: Array, labels: Labels) -> tuple[float, Any]:
        _set_mode(self._model, True)
        parts: Any = nnx.split(self._model, nnx.Param, ...)
        definition, parameters, rest = parts
        with jax.enable_x64(True):
            (loss, rest), gradients = self._loss_and_gradient(
                parameters, definition, rest, self._input(images), jnp.asarray(labels)
            )
        nnx.update(self._model, rest)
        return float(loss), gradients


def _return_mask(draw: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Wrap a method that draws a mask, to return the mask that was set."""

    def call(module: Any, x: jax.Array, *column: jax.Array) -> jax.Array:
        drawn = draw(module, x, *column)
        if module.deterministic:
            return drawn
        mask = jnp.array(module.mask, x.dtype).reshape(-1, *drawn.shape[1:])
        return jnp.broadcast_to(mask, drawn.shape)

    return call


def _compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return a function that JAX compiles quickly, and separately for each owner."""
    return jax.jit(lambda *args: function(*args), compiler_options=_QUICK, **options)


def _forward(definition: Any, state: Any, images: jax.Array) -> tuple[jax.Array, Any, Any]:
    """Logits, block features and the state after one pass."""
    model = nnx.merge(definition, state, copy=True)
    logits = model(images)
    parts = nnx.iter_modules(model)
    named = [(".".join(map(str, path)), module) for path, module in parts]
    require_nothing_kept(named, jax.Array)
    # A separate pass, on a copy: in training, running statistics must be updated only once.
    features = nnx.merge(definition, state, copy=True).forward_features(images)
    return logits, features, nnx.state(model)


@partial(jax.value_and_grad, has_aux=True)
def _loss_and_gradient(
    parameters: Any, definition: Any, rest: Any, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, Any]:
    model = nnx.merge(definition, parameters, rest, copy=True)  # written to in this trace
    return mean_cross_entropy(model(images), labels), nnx.state(model, nnx.Not(nnx.Param))


def _set_mode(model: Any, training: bool) -> None:
    if training:
        model.train()
    else:
        model.eval()


def _array(array: jax.Array) -> Array:
    return np.asarray(array, np.float64)


def _channels_first(array: jax.Array) -> Array:
    return np.transpose(np.asarray(array, np.float64), (0, 3, 1, 2))
