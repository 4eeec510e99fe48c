"""Which small changes of the compiler's core, and of the templates, no test notices.

    python tests/mutants/run.py -o tests/mutants/results.json

Every mutant (``mutate.py``) has a process of its own. It is forked when the tests have been
collected, gets the code of the one function that is changed and runs the tests that call this
function, quick ones first, until one fails. What is changed outside of functions takes effect on
import: such a mutant collects the tests anew. Tests that take long, and those of Flax, don't take
part where others call the same: what survives here may still be caught by ``make test``.

How each ended is kept in ``runs/mutants``: what was broken off goes on where it was. Where a
function has changed, what is changed in it is asked anew; where what it calls or a test has,
``--again`` asks the survivors, and another folder (``--runs``) all.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "backends")]

from tests.mutants import templates  # noqa: E402
from tests.mutants.mutant import Mutant  # noqa: E402
from tests.mutants.mutate import mutants_of  # noqa: E402
from tests.mutants.processes import (  # noqa: E402
    BROKEN,
    DEAD,
    KILLED,
    NOT_CALLED,
    ON_IMPORT,
    OUTCOMES,
    SURVIVED,
    Journal,
    fork_each,
    in_child,
    say,
)
from tests.mutants.scope import HEAVY, LIBRARIES, PYTEST, TESTS, core, module_of  # noqa: E402
from tests.mutants.survey import (  # noqa: E402
    Calls,
    callers_of,
    few,
    live_caches,
    run_items,
    surveyed,
)

Place = tuple[str, str, int]  # file, qualified name and first line of a function


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="files with one of these in the path"
    )
    parser.add_argument("--again", action="store_true", help="ask what has survived once more")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="files and folders in tests/")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/mutants"), help="folder to go on in"
    )
    parser.add_argument("--seconds", type=float, default=20, help="of tests for one mutant")
    parser.add_argument("-o", "--output", type=Path, help="file for the results")
    args = parser.parse_args()
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"
    commit = checkout()
    with ProcessPoolExecutor(args.jobs) as pool:
        mutants = [mutant for found in pool.map(listed, core()) for mutant in found]
    of_templates = list(templates.mutants())
    journal = Journal(args.runs / "ended.jsonl")
    if asked := list(to_ask(mutants, journal, args)):
        run(asked, journal, args)
    if asked := list(to_ask(of_templates, journal, args)):
        templates.run(asked, journal, args.jobs)
    summary = {
        "command": shlex.join(["python", "tests/mutants/run.py", *sys.argv[1:]]),
        **commit,
        "versions": {name: version(name) for name in ("mutmut", "libcst", "pytest", "torch")},
        **summary_of(known(mutants, journal)),
        "of": len(mutants),
        "templates": counted(known(of_templates, journal)),
    }
    text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
    if args.output:
        args.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    say(f"{summary['killed']} of {summary['mutants']} killed, {summary['share']:.1%}")
    return 0


def to_ask(mutants: list[Mutant], journal: Journal, args: argparse.Namespace) -> Iterator[Mutant]:
    """Those of the files asked for that nothing is known of; with ``--again``, what survived."""
    for mutant in mutants:
        code = journal.ended.get(mutant.key, ON_IMPORT)
        again = args.again and code not in DEAD
        if (code == ON_IMPORT or again) and any(part in str(mutant.file) for part in args.only):
            yield mutant


def run(mutants: list[Mutant], journal: Journal, args: argparse.Namespace) -> None:
    say(f"{len(mutants)} mutants")
    inside = [mutant for mutant in mutants if mutant.function]
    took, calls = in_child(lambda: run_inside(inside, journal, args))
    journal.read()
    # The rest is for processes that have not imported the compiler: this one has not.
    late = {key for key, code in journal.ended.items() if code == ON_IMPORT}
    rest = [mutant for mutant in mutants if not mutant.function or mutant.key in late]
    say(f"{len(rest)} mutants of what is executed on import")
    for name in LIBRARIES:
        importlib.import_module(name)

    def one(mutant: Mutant) -> int:
        near = list(callers_of(mutant, calls)) or list(took)
        return run_anew(mutant, few(near, took, args.seconds), args)

    fork_each(rest, one, journal, args.jobs)


# ---- mutants of functions ------------------------------------------------------------------


def run_inside(
    mutants: list[Mutant], journal: Journal, args: argparse.Namespace
) -> tuple[dict[str, float], Calls]:
    """Run the mutants of functions, and return how long tests take and what they call."""
    found: list[tuple[dict[str, float], Calls]] = []

    class Loop:
        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            if session.testsfailed:
                sys.exit("the tests can't be collected")
            gc.unfreeze()  # what tests/conftest.py froze, gc.get_objects() does not tell
            for name in (*map(module_of, core()), *LIBRARIES, *HEAVY):
                importlib.import_module(name)
            took, calls = surveyed(args.runs, session.items)
            items = {item.nodeid: item for item in session.items}
            functions, caches = live_functions(), live_caches()
            gc.freeze()  # what nobody changes is not copied into every process

            def one(mutant: Mutant) -> int:
                names = few(callers_of(mutant, calls), took, args.seconds)
                if not names:
                    return NOT_CALLED
                for cache in caches:
                    cache.cache_clear()  # what it holds was computed by other code
                if not exchange(mutant, functions):
                    return ON_IMPORT
                return run_items([items[name] for name in names])

            found.append((took, calls))
            fork_each(mutants, one, journal, args.jobs)
            return True

    code = pytest.main([*PYTEST, *tests(args)], [Loop()])
    if code or not found:
        sys.exit(f"pytest ended with {code}")
    return found[0]


def tests(args: argparse.Namespace) -> list[str]:
    return [f"tests/{name}" for name in args.tests]


def live_functions() -> dict[Place, list[FunctionType]]:
    found: dict[Place, list[FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType):
            code = each.__code__
            found[code.co_filename, code.co_qualname, code.co_firstlineno].append(each)
    return dict(found)


def exchange(mutant: Mutant, functions: dict[Place, list[FunctionType]]) -> bool:
    """Give a function the code of its mutant; tell whether that can be done."""
    path, (name, line, _) = str(ROOT / mutant.file), mutant.function
    code = code_of(compile(mutant.source, path, "exec"), (name, line))
    live = functions.get((path, name, line))
    if code is None or not live:
        return False
    for each in live:
        if each.__code__.co_freevars != code.co_freevars:
            return False
        each.__code__ = code
    return True


def code_of(code: CodeType, function: tuple[str, int]) -> CodeType | None:
    if (code.co_qualname, code.co_firstlineno) == function:
        return code
    inner = (code_of(each, function) for each in code.co_consts if isinstance(each, CodeType))
    return next(filter(None, inner), None)


# ---- mutants of what is executed on import -------------------------------------------------


def run_anew(mutant: Mutant, quick: list[str], args: argparse.Namespace) -> int:
    """Import a changed file, and run quick tests."""
    path = str(ROOT / mutant.file)

    class Loader(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType:
            return compile(mutant.source, path, "exec")

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> Any:
            if name == module_of(mutant.file):
                return importlib.util.spec_from_file_location(name, path, loader=Loader(name, path))
            return None

    class Quick:
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            place = {name: number for number, name in enumerate(quick)}
            items[:] = sorted(
                (item for item in items if item.nodeid in place),
                key=lambda item: place[item.nodeid],
            )

    sys.meta_path.insert(0, Finder)
    try:
        for name in (*map(module_of, core()), *HEAVY):
            importlib.import_module(name)
    except Exception:  # noqa: BLE001  # whatever the change does
        return KILLED
    code = pytest.main([*PYTEST, "-x", *tests(args)], [Quick()])
    ends = {pytest.ExitCode.OK: SURVIVED, pytest.ExitCode.TESTS_FAILED: KILLED}
    return ends.get(code, KILLED if code == pytest.ExitCode.INTERRUPTED else BROKEN)


# ---- what came out -------------------------------------------------------------------------


def checkout() -> dict[str, Any]:
    """The commit, and whether files differ from it; new results do not count."""
    status = ("status", "--porcelain", "--", ".", ":!tests/mutants/results.json")
    return {"commit": git("rev-parse", "--short", "HEAD"), "dirty": bool(git(*status))}


def git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def listed(file: Path) -> list[Mutant]:
    return list(mutants_of(file))


def known(mutants: Iterable[Mutant], journal: Journal) -> dict[Mutant, int]:
    return {m: code for m in mutants if (code := journal.ended.get(m.key)) is not None}


def summary_of(results: dict[Mutant, int]) -> dict[str, Any]:
    files: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant, code in results.items():
        files[str(mutant.file)].update(mutants=1, killed=code in DEAD)
    counts = counted(results)
    return {
        "mutants": counts["mutants"],
        "killed": counts["killed"],
        "share": round(counts["killed"] / max(counts["mutants"], 1), 4),
        "ended": {OUTCOMES[code]: count for code, count in Counter(results.values()).items()},
        "files": {file: dict(each) for file, each in files.items()},
        "survivors": counts["survivors"],
    }


def counted(results: dict[Mutant, int]) -> dict[str, Any]:
    return {
        "mutants": len(results),
        "killed": sum(code in DEAD for code in results.values()),
        "survivors": list(survivors(results)),
    }


def survivors(results: dict[Mutant, int]) -> Iterator[dict[str, Any]]:
    for mutant, code in results.items():
        if code not in DEAD:
            ended = {} if code == SURVIVED else {"ended": OUTCOMES[code]}
            place = f"{mutant.file}:{mutant.line}"
            yield {"at": place, "before": mutant.before, "after": mutant.after, **ended}


if __name__ == "__main__":
    sys.exit(main())
