"""Mutants of the backends' templates: each line left out, and one word or number of it changed.

Digests (``tests/emit/test_digests.py``) are of every character that small networks compile to. A
mutant meets those of the networks that its template has a part in, the quickest first.
"""

from __future__ import annotations

import gc
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, PackageLoader

from tests.mutants.mutant import Mutant, digest, numbered
from tests.mutants.processes import NOT_CALLED, Journal, fork_each, in_child, say
from tests.mutants.scope import PYTEST, ROOT
from tests.mutants.survey import run_items

TEST = "tests/emit/test_digests.py::test_what_is_written_is_what_it_was"
# What is substituted is kept: another name would be an error of Jinja.
_TOKEN = re.compile(r"\{\{.*?\}\}|\d+|[^\W\d]\w*")


def mutants() -> Iterator[Mutant]:
    """Two of each line that is not empty."""
    return numbered(_mutants())


def _mutants() -> Iterator[Mutant]:
    for path in sorted(ROOT.glob("backends/*/templates/*.jinja")):
        file, text = path.relative_to(ROOT), path.read_text(encoding="utf-8")
        lines, within = text.splitlines(keepends=True), digest(text)
        for i, line in enumerate(lines):
            if not line.strip():
                continue
            for after in ("", _changed(line)):
                source = "".join([*lines[:i], after, *lines[i + 1 :]])
                yield Mutant(file, i + 1, line.strip(), after.strip(), source, None, within)


def _changed(line: str) -> str:
    tokens = [token for token in _TOKEN.finditer(line) if not token[0].startswith("{{")]
    if not tokens:
        return f"{line.rstrip()}_\n"
    last = tokens[-1]
    new = str(int(last[0]) + 1) if last[0].isdecimal() else f"{last[0]}_"
    return line[: last.start()] + new + line[last.end() :]


def run(asked: Sequence[Mutant], journal: Journal, jobs: int) -> None:
    """Let a process judge each mutant, with what the tests make of the changed template."""

    class Loop:
        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            users = users_of(session.items)
            gc.freeze()  # what nobody changes is not copied into every process

            def one(mutant: Mutant) -> int:
                path = ROOT / mutant.file
                if path not in users:
                    return NOT_CALLED
                with reading(lambda read, source: mutant.source if read == path else source):
                    return run_items(users[path])

            fork_each(asked, one, journal, jobs)
            return True

    say(f"{len(asked)} mutants of templates")
    if in_child(lambda: int(pytest.main([*PYTEST, TEST], [Loop()]))):
        sys.exit("the digests can't be computed")
    journal.read()


def users_of(items: list[pytest.Item]) -> dict[Path, list[pytest.Item]]:
    """Return the tests that read each template, quick ones first."""
    took: dict[str, float] = {}
    users: dict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        found: set[Path] = set()

        def note(path: Path, source: str, found: set[Path] = found) -> str:
            found.add(path)
            return source

        begun = time.process_time()
        with reading(note):
            if run_items([item]):
                sys.exit(f"{item.nodeid} fails without any change")
        took[item.nodeid] = time.process_time() - begun
        for path in found:
            users[path].append(item)
    return {path: sorted(each, key=lambda item: took[item.nodeid]) for path, each in users.items()}


@contextmanager
def reading(changed: Callable[[Path, str], str]) -> Iterator[None]:
    """Let Jinja read, for the source of the template at a path, what a function makes of it."""
    read = PackageLoader.get_source

    def get_source(loader: PackageLoader, environment: Environment, template: str) -> Any:
        source, path, is_current = read(loader, environment, template)
        return changed(Path(path), source), path, is_current

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackageLoader, "get_source", get_source)
        yield
