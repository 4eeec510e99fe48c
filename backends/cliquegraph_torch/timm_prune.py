"""Generated classes cut after one of their blocks, for timm's ``prune_intermediate_layers``."""

from __future__ import annotations

import ast
import sys
from typing import Any

import torch
from torch import Tensor


def first_blocks(generated: Any, source: str, count: int) -> Any:
    """Return a subclass of a generated class that computes the first blocks alone.

    Its ``forward_features`` and ``gather`` run the statements of the generated method up to that of
    the last feature kept, with the same blocks: a network compiled with fewer blocks could have
    others (other drop probabilities, other results of its last block). Its ``parts`` are the names
    of the modules that these statements read.

    Args:
        generated: the generated class, of a module in ``sys.modules``.
        source: the module's source, at -O0.
        count: how many blocks to keep.
    """
    trunk = _trunk(source, generated.__name__)
    ended, parts = _ended(trunk, count)
    module = sys.modules[generated.__module__]
    code = compile(ast.Module([ended], []), str(module.__file__), "exec")
    scope: dict[str, Any] = {}
    exec(code, module.__dict__, scope)  # noqa: S102  # statements of our own output
    run = scope[trunk.name]

    def forward_features(self: Any, *inputs: Any) -> tuple[Tensor, ...]:
        return tuple(_joined(feature) for feature in run(self, *inputs))

    def gather(self: Any, *inputs: Any) -> tuple[Any, ...]:
        *others, last = run(self, *inputs)
        return (*others, _joined(last))

    members = {"forward_features": forward_features, "parts": parts}
    if trunk.name == "gather":
        members["gather"] = gather
    return type(generated.__name__, (generated,), members)


def _joined(feature: Any) -> Any:
    """Return a feature that ``gather`` returns as a list of maps."""
    return torch.cat(feature, 1) if isinstance(feature, list) else feature


def _trunk(source: str, name: str) -> ast.FunctionDef:
    """Return the method that computes the features: ``gather``, where the class has one."""
    classes = [each for each in ast.parse(source).body if isinstance(each, ast.ClassDef)]
    (body,) = [each.body for each in classes if each.name == name]
    methods = {each.name: each for each in body if isinstance(each, ast.FunctionDef)}
    return methods.get("gather") or methods["forward_features"]


def _ended(trunk: ast.FunctionDef, count: int) -> tuple[ast.FunctionDef, frozenset[str]]:
    """Return the method with its statements up to the feature of a block, and what it reads."""
    returned: Any = trunk.body[-1]  # return feature1, feature2, ...
    features = returned.value.elts[:count]
    last = ast.unparse(features[-1])
    (end,) = [place for place, each in enumerate(trunk.body) if last in _assigned(each)]
    returned.value.elts = features
    trunk.body = [*trunk.body[: end + 1], returned]
    trunk.returns = None
    reads = [each for each in ast.walk(trunk) if isinstance(each, ast.Attribute)]
    return trunk, frozenset(each.attr for each in reads if ast.unparse(each.value) == "self")


def _assigned(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return []
    names = [each for target in targets for each in ast.walk(target)]
    return [each.id for each in names if isinstance(each, ast.Name)]
