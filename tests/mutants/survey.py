"""How long tests take and what they call: a mutant meets those that call its function."""

from __future__ import annotations

import functools
import gc
import os
import pickle
import signal
import sys
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.mutant import Mutant, digest
from tests.mutants.processes import KILLED, SURVIVED, in_child, say
from tests.mutants.scope import ROOT, core

LONGEST = 3.0  # CPU seconds of a test that takes part, while its calls are noted

Calls = dict[str, set[tuple[str, int]]]  # of each test: file and first line of what it calls


def surveyed(runs: Path, items: list[pytest.Item]) -> tuple[dict[str, float], Calls]:
    """Return how long tests take that take part, and what each calls.

    It is found out once for what the core and the tests that were collected are now.
    """
    path = runs / f"survey-{_digest_of_sources()}.pickle"
    took: dict[str, float] = {}
    calls: Calls = {}
    if path.exists():
        took, calls = pickle.loads(path.read_bytes())  # noqa: S301  # our own
    new = [item for item in items if item.nodeid not in took]
    say(f"{len(new)} of {len(items)} tests: how long they take, what they call")
    more = in_child(lambda: survey(new))
    took, calls = took | more[0], calls | more[1]
    path.write_bytes(pickle.dumps((took, calls)))
    part = {item.nodeid for item in items if took[item.nodeid] < LONGEST}
    return {name: took[name] for name in part}, {name: calls[name] for name in part}


def _digest_of_sources() -> str:
    tests, tool = ROOT / "tests", ROOT / "tests" / "mutants"
    imported = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    files = {Path(file) for file in imported if file}
    taking = {file for file in files if file.is_relative_to(tests) and tool not in file.parents}
    used = sorted({ROOT / file for file in core()} | taking)
    return digest(*(part for file in used for part in (str(file), file.read_bytes())))


def survey(items: list[pytest.Item]) -> tuple[dict[str, float], Calls]:
    """Return how long each test takes, and what functions of the core it calls."""
    files = {str(ROOT / file) for file in core()}
    took: dict[str, float] = {}
    calls: Calls = {}
    caches = live_caches()
    signal.signal(signal.SIGPROF, too_long)
    for item in items:
        for cache in caches:
            cache.cache_clear()
        begun, seen = cpu_seconds(), set[CodeType]()
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        sys.setprofile(lambda frame, event, arg, seen=seen: seen.add(frame.f_code))
        try:
            failed = run_items([item])
        except (Exception, TooLongError):  # noqa: BLE001  # the alarm came between the phases of a test
            item.session._setupstate.teardown_exact(None)
            failed = KILLED
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.setprofile(None)
        took[item.nodeid] = cpu_seconds() - begun
        if failed:
            say(f"{item.nodeid} takes long or fails without any change: it takes no part")
            took[item.nodeid] = LONGEST
        calls[item.nodeid] = {
            (code.co_filename, code.co_firstlineno) for code in seen if code.co_filename in files
        }
        if len(took) % 100 == 0:
            say(f"{len(took)} of {len(items)} tests")
    return took, calls


def cpu_seconds() -> float:
    """Of this process and those that it has waited for."""
    return sum(os.times()[:4])


class TooLongError(BaseException):
    """Ends a test that takes no part; no ``except Exception`` stops it."""


def too_long(*_: object) -> None:
    raise TooLongError


def callers_of(mutant: Mutant, calls: Calls) -> Iterator[str]:
    """The tests that call the function of a mutant; any of its file where it is in none."""
    path, (_, first, last) = str(ROOT / mutant.file), mutant.function or ("", 0, sys.maxsize)
    for name, called in calls.items():
        if any(file == path and first <= line <= last for file, line in called):
            yield name


def few(names: Iterable[str], took: dict[str, float], seconds: float) -> list[str]:
    """The quickest of some tests, as many as there is time for."""
    ordered = sorted(names, key=lambda name: (took[name], name))
    total = accumulate(took[name] for name in ordered)
    within = [name for name, end in zip(ordered, total, strict=True) if end < seconds]
    return within or ordered[:1]


def run_items(items: list[pytest.Item]) -> int:
    """Run tests until one fails."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        reports = runtestprotocol(item, log=False, nextitem=following)
        if any(report.failed for report in reports):
            return KILLED
    return SURVIVED


def live_caches() -> list[Any]:
    return [each for each in gc.get_objects() if isinstance(each, functools._lru_cache_wrapper)]
