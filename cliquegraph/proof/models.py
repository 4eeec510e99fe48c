"""Models that a user names, ``package.module:Class`` or ``model.py:Class``, and their errors."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from cliquegraph.diagnostics.errors import UsageError


def load_model(place: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """Import a module, which executes it, and call its class or function.

    Args:
        place: ``package.module:Class``, ``path/model.py:Class``, or a function's name.
        arguments: with which it is called.

    Raises:
        UsageError: there is no such module or name, or the code raises an error.
    """
    where, _, name = place.rpartition(":")
    if not where or not name:
        raise UsageError(
            f"{place!r} names no model: expected MODULE:CLASS, such as model.py:Net or "
            "torchvision.models:resnet18"
        )
    module = _module(where)
    if not hasattr(module, name):
        named = [each for each, value in vars(module).items() if isinstance(value, type)]
        own = [
            each
            for each in named
            if getattr(vars(module)[each], "__module__", "") == module.__name__
        ]
        known = f"; it has {', '.join(own[:10])}" if own else ""
        raise UsageError(f"{where} has no {name}{known}")
    made = getattr(module, name)
    if not callable(made):
        raise UsageError(f"{place} is neither a class nor a function")
    if not isinstance(made, type) and _is_model(made):
        return made  # a model that the module has built already
    try:
        return made(**(arguments or {}))
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever the user's code raises
        hint = "; --args gives it arguments" if isinstance(error, TypeError) else ""
        if isinstance(error, TypeError) and "rngs" in str(error):
            hint = "; Flax models can't be certified, only PyTorch's: `prove` takes generated files"
        raise UsageError(f"{place} can't be built: {failure(error)}{hint}") from None


def _is_model(value: object) -> bool:
    return hasattr(value, "state_dict") and hasattr(value, "named_parameters")


def _module(where: str) -> ModuleType:
    if where.endswith(".py"):
        return _of_file(Path(where))
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is not None and (where == error.name or where.startswith(f"{error.name}.")):
            raise UsageError(
                f"there is no module {where}: install {error.name.partition('.')[0]}, or name a "
                "file by its path, model.py:Class"
            ) from None
        raise UsageError(f"{where} can't be imported: {failure(error)}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever the user's code raises
        raise UsageError(f"{where} can't be imported: {failure(error)}") from None


def _of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # for modules beside it
        sys.path.insert(0, folder)
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # dataclasses look there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever the user's code raises
        raise UsageError(f"{path} can't be imported: {failure(error)}") from None
    finally:
        if before is not None:
            sys.modules[path.stem] = before
    return module


def failure(error: BaseException) -> str:
    """Describe an error of a user's code in one line, with the line that raised it."""
    text = " ".join(str(error).split())
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{message} (line {error.lineno})" if "line" not in text else message
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not _is_library(frame.filename)
    ]
    if not frames:
        return message
    last = frames[-1]
    return f"{Path(last.filename).name}, line {last.lineno}: {message}"


def _is_library(file: str) -> bool:
    parts = Path(file).parts
    ours = any(part.startswith("cliquegraph") for part in parts[-3:-1])  # backends too
    return ours or "site-packages" in parts or file.startswith("<frozen") or "importlib" in parts
