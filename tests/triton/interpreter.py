"""Triton's interpreter, which runs the kernels of generated files on CPU tensors.

Import this before Triton, in a process of its own: what Triton has compiled once, it interprets no
more.
"""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

assert "triton" not in sys.modules
os.environ["TRITON_INTERPRET"] = "1"

from triton.runtime import interpreter  # noqa: E402  # reads the environment

from cliquegraph import NetworkSpec, compile  # noqa: E402

_patch = interpreter._patch_lang_tensor


def _patch_lang_tensor(tensor: Any, scope: Any) -> None:
    """Scalars are arrays of one element, which NumPy 2.4 no longer converts to integers."""
    _patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


interpreter._patch_lang_tensor = _patch_lang_tensor


def load(spec: NetworkSpec, level: int, folder: Path) -> Any:
    """A generated module, from a file."""
    path = folder / f"{spec.name}_o{level}.py"
    path.write_text(compile(spec, "torch", level=level), encoding="utf-8")
    found = spec_from_file_location(path.stem, path)
    assert found is not None and found.loader is not None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module
