"""The importer of generated modules."""

from __future__ import annotations

import hashlib
import linecache
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from cliquegraph.built.names import PACKAGE, Recipe, recipe_of
from cliquegraph.compiler import Compilation
from cliquegraph.plugins.backends import find_backend

_compiled: dict[str, str] = {}
"""Sources of modules that are about to be imported."""


class Loader(InspectLoader):
    """Compiles a module from the recipe in its name.

    Args:
        recipe: the recipe.
        source: the source, if it has been compiled already.
    """

    def __init__(self, recipe: Recipe, source: str | None = None) -> None:
        self._recipe = recipe
        self._source = source

    @property
    def file(self) -> str:
        """The name of the source in tracebacks; in angle brackets, as there is no such file."""
        digest = hashlib.sha256(self._recipe.module.encode()).hexdigest()
        return f"<cliquegraph {self._recipe.title} {digest[:8]}>"

    def get_source(self, fullname: str) -> str:
        """Return the generated source.

        Raises:
            CliqueGraphError: as of ``cliquegraph.compile``.
        """
        if self._source is None:
            recipe = self._recipe
            compilation = Compilation(recipe.network, recipe.level, recipe.inference)
            self._source = compilation.source(find_backend(recipe.backend))
        return self._source

    def is_package(self, fullname: str) -> bool:
        """Return False."""
        return False

    def exec_module(self, module: ModuleType) -> None:
        """Execute the source, and show it to tracebacks, debuggers and ``inspect.getsource``."""
        source, file = self.get_source(module.__name__), self.file
        module.__file__ = file
        # Without a time of change, linecache.checkcache retains it.
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102


class _Finder(MetaPathFinder):
    """Finds the modules of ``cliquegraph.built`` whose names hold a recipe."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module comes from; None for every other one."""
        if not fullname.startswith(f"{PACKAGE}."):
            return None
        recipe = recipe_of(fullname)
        if recipe is None:
            return None
        return ModuleSpec(fullname, Loader(recipe, _compiled.get(fullname)))


def install() -> None:
    """Let Python import the modules of ``cliquegraph.built``, after those that have files."""
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.append(_Finder())


def imported(recipe: Recipe, source: Callable[[], str]) -> ModuleType:
    """Return the module of a recipe.

    Args:
        recipe: the recipe.
        source: compiles it, if it has not been imported before.
    """
    name = recipe.module
    if name in sys.modules:
        return sys.modules[name]
    _compiled[name] = source()
    try:
        return import_module(name)
    finally:
        del _compiled[name]
