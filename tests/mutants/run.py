"""Which small changes of the compiler's core no test notices.

    python tests/mutants/run.py -o tests/mutants/results.json

Every mutant (``mutate.py``) has a process of its own. It is forked when the tests have been
collected, gets the code of the one function that is changed and runs the tests that call this
function, quick ones first, until one fails. What is changed outside of functions takes effect on
import: such a mutant collects the tests anew. Tests that take long, and those of Flax, don't take
part where others call the same: what survives here may still be caught by ``make test``.
Mutants come in random order, so that those which ``--minutes`` allows are a fair sample.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import os
import pickle
import random
import resource
import shlex
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Set
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import coverage
import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "backends")]

from tests.mutants.mutate import Mutant, mutants_of  # noqa: E402

CORE = ("steps", "ir", "passes", "analysis", "weights", "lower.py", "wiring.py")
TESTS = (
    *("steps", "ir", "passes", "analysis", "weights", "museum", "emit/test_outline.py"),
    *("test_lower.py", "test_wiring.py", "test_interpret.py", "test_official.py"),
    *("test_compiler.py", "spec/test_shipped.py", "test_figures.py", "test_errors.py"),
    *("emit/test_digests.py", "emit/test_source.py", "emit/test_code.py", "test_cli.py"),
)
HEAVY = (  # imported once, and not by every process
    *("torch", "jax", "flax.nnx", "optax", "safetensors.numpy", "rich.table", "typer"),
    *("cliquegraph.cli", "cliquegraph.verify", "cliquegraph.checkpoints", "cliquegraph.report"),
    *("cliquegraph_torch.backend", "cliquegraph_torch.execute", "cliquegraph_torch.pickles"),
    *("cliquegraph_flax.backend", "cliquegraph_flax.naming", "cliquegraph_flax.live"),
)
PYTEST = (
    *("-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore"),
    "--tb=native",  # the others read sources, which takes longer than a test
    *("-k", "not flax and not Flax"),
)
LONGEST = 0.4  # seconds of a test that takes part, while its lines are counted
ENOUGH = 12.0  # seconds of tests for one mutant, counted so
FEW = 3  # tests, where all that call a function take long
PATIENCE = 120.0  # seconds, after which a change has made something endless: killed
MEMORY = 12 << 30  # bytes: a change may ask for more than there is

SURVIVED, KILLED, NOT_CALLED, ON_IMPORT, NOT_RUN = range(5)  # exit codes of a mutant's process

Place = tuple[str, str, int]  # file, qualified name and first line of a function
Callers = dict[str, dict[int, list[str]]]  # the tests that execute a line of a file


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--only", default="", help="files whose path holds this")
    parser.add_argument("--again", type=Path, help="results; only what survived there")
    parser.add_argument("--tests", nargs="+", help="run all of these, whatever calls what")
    parser.add_argument("--half", choices=["inside", "import"], help="of functions, or the others")
    parser.add_argument("--minutes", type=float, default=1e6, help="for each of the two halves")
    parser.add_argument("--survey", type=Path, help="file in which to keep what calls what")
    parser.add_argument("-o", "--output", type=Path, help="file for the results")
    args = parser.parse_args()
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(args.jobs) as pool:
        found = pool.map(listed, [file for file in core() if args.only in str(file)])
        mutants = [mutant for each in found for mutant in each]
    say(f"{len(mutants)} mutants")
    before = survivors_of(args.again) if args.again else None
    dead = [m for m in mutants if before is not None and key_of(m) not in before]
    mutants = [m for m in mutants if before is None or key_of(m) in before]
    random.Random(0).shuffle(mutants)  # noqa: S311  # a sample, no secret
    if args.half:
        mutants = [m for m in mutants if bool(m.function) == (args.half == "inside")]
    inside = [mutant for mutant in mutants if mutant.function]
    quick, ended = in_child(lambda: run_inside(inside, args))
    results = dict(zip(inside, ended, strict=True))
    # The rest is for processes that have not imported the compiler: this one has not.
    rest = [m for m in mutants if not m.function or results[m] == ON_IMPORT]
    say(f"{len(rest)} mutants of what is executed on import")
    anew = fork_each(rest, lambda mutant: run_anew(mutant, quick, args), args)
    results |= dict(zip(rest, anew, strict=True))
    results |= dict.fromkeys(dead, KILLED)
    mutants += dead
    if before is not None:  # or those that are left would look better than they are
        results = {m: SURVIVED if code == NOT_RUN else code for m, code in results.items()}
    done = {m: results[m] for m in sorted(mutants, key=str) if results[m] != NOT_RUN}
    summary = summary_of(done, len(mutants))
    text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
    if args.output:
        args.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    say(f"{summary['killed']} of {summary['mutants']} killed, {summary['share']:.1%}")
    return 0


def core() -> list[Path]:
    paths = [Path("cliquegraph", name) for name in CORE]
    return sorted(f for path in paths for f in ([path] if path.suffix else path.glob("*.py")))


# ---- mutants of functions ------------------------------------------------------------------


def run_inside(mutants: list[Mutant], args: argparse.Namespace) -> tuple[list[str], list[int]]:
    """Return the quick tests, and how each mutant ended."""
    answer: list[Any] = []

    class Loop:
        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            if session.testsfailed:
                sys.exit("the tests can't be collected")
            for name in (*map(module_of, core()), *HEAVY):
                importlib.import_module(name)
            took, callers = ({}, {}) if args.tests else surveyed(args.survey, session.items)
            items = {item.nodeid: item for item in session.items}
            functions = live_functions()

            def one(mutant: Mutant) -> int:
                names = list(items)
                if not args.tests:
                    names = few(callers_of(mutant, callers, took.keys()), took)
                if not names:
                    return NOT_CALLED
                if not exchange(mutant, functions):
                    return ON_IMPORT
                return run_items([items[name] for name in names])

            answer.extend((few(took, took), fork_each(mutants, one, args)))
            return True

    code = pytest.main([*PYTEST, *tests(args)], [Loop()])
    if code or not answer:
        sys.exit(f"pytest ended with {code}")
    return answer[0], answer[1]


def surveyed(path: Path | None, items: list[pytest.Item]) -> tuple[dict[str, float], Callers]:
    """Return how long tests take and what they call; only what ``path`` lacks is found out."""
    took: dict[str, float] = {}
    callers: Callers = {}
    if path and path.exists():
        took, callers = pickle.loads(path.read_bytes())  # noqa: S301  # our own
    new = [item for item in items if took.get(item.nodeid, LONGEST) >= LONGEST]
    say(f"{len(new)} of {len(items)} tests: how long they take, what they call")
    more, lines = in_child(lambda: survey(new))
    took |= more
    for file, contexts in lines.items():
        for line, names in contexts.items():
            known = callers.setdefault(file, {}).setdefault(line, [])
            known += set(names) - set(known)
    if path:
        path.write_bytes(pickle.dumps((took, callers)))
    here = {item.nodeid for item in items}
    return {name: seconds for name, seconds in took.items() if name in here}, callers


def tests(args: argparse.Namespace) -> list[str]:
    return args.tests or [f"tests/{name}" for name in TESTS]


def survey(items: list[pytest.Item]) -> tuple[dict[str, float], Callers]:
    """Return how long each test takes, and which tests execute a line of the core."""
    watch = coverage.Coverage(
        data_file=None, config_file=False, include=[str(ROOT / file) for file in core()]
    )
    took: dict[str, float] = {}
    signal.signal(signal.SIGALRM, too_long)
    watch.start()
    for item in items:
        forget()
        watch.switch_context(item.nodeid)
        begun = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, LONGEST)
        try:
            failed = run_items([item])
        except (Exception, TooLongError):  # noqa: BLE001  # the alarm came between the phases of a test
            item.session._setupstate.teardown_exact(None)
            failed = KILLED
        signal.setitimer(signal.ITIMER_REAL, 0)
        took[item.nodeid] = time.perf_counter() - begun
        if failed and took[item.nodeid] < LONGEST:
            say(f"{item.nodeid} fails without any change: it takes no part")
            took[item.nodeid] = LONGEST
        if len(took) % 100 == 0:
            say(f"{len(took)} of {len(items)} tests")
    watch.stop()
    data = watch.get_data()
    return took, {file: data.contexts_by_lineno(file) for file in data.measured_files()}


class TooLongError(BaseException):
    """Ends a test that takes no part; no ``except Exception`` stops it."""


def too_long(*_: object) -> None:
    raise TooLongError


def callers_of(mutant: Mutant, callers: Callers, known: Set[str]) -> set[str]:
    """The tests that call the function of a mutant."""
    _, first, last = mutant.function
    lines = callers.get(str(ROOT / mutant.file), {})
    found = {name for line in range(first, last + 1) for name in lines.get(line, ())}
    return found & known


def few(names: Iterable[str], took: dict[str, float]) -> list[str]:
    """The quickest of some tests, as many as there is time for."""
    ordered = sorted(names, key=lambda name: (took[name], name))
    total = accumulate(took[name] for name in ordered)
    quick = [n for n, end in zip(ordered, total, strict=True) if took[n] < LONGEST and end < ENOUGH]
    return quick or ordered[:FEW]


def run_items(items: list[pytest.Item]) -> int:
    """Run tests until one fails."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        reports = runtestprotocol(item, log=False, nextitem=following)
        if any(report.failed for report in reports):
            return KILLED
    return SURVIVED


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
    forget()
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


def forget() -> None:
    """Clear caches: what they hold was computed by other code."""
    for each in gc.get_objects():
        if isinstance(each, functools._lru_cache_wrapper):
            each.cache_clear()


# ---- mutants of what is executed on import -------------------------------------------------


def run_anew(mutant: Mutant, quick: list[str], args: argparse.Namespace) -> int:
    """Import a changed file, and run the quick tests of all."""
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
    return KILLED if pytest.main([*PYTEST, "-x", *tests(args)], [Quick()]) else SURVIVED


def module_of(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# ---- processes -----------------------------------------------------------------------------


def in_child(function: Callable[[], Any]) -> Any:
    """Return what a function returns in a process of its own, which leaves this one as it is."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        with os.fdopen(writer, "wb") as stream:
            try:
                stream.write(pickle.dumps(function()))
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                raise
            finally:
                stream.flush()
                os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    os.waitpid(pid, 0)
    if not data:
        sys.exit("ended early")
    return pickle.loads(data)  # noqa: S301  # our own


def fork_each(
    mutants: list[Mutant], one: Callable[[Mutant], int], args: argparse.Namespace
) -> list[int]:
    """Return the exit code of a process for each mutant, some of them at once."""
    end = time.monotonic() + 60 * args.minutes
    running: dict[int, tuple[int, float]] = {}
    ended: dict[int, int] = {}
    waiting = iter(enumerate(mutants))
    while len(ended) < len(mutants):
        while len(running) < args.jobs and (following := next(waiting, None)):
            number, mutant = following
            if time.monotonic() > end:
                ended[number] = NOT_RUN
                continue
            pid = os.fork()
            if not pid:
                quietly(lambda mutant=mutant: one(mutant))
            running[pid] = number, time.monotonic()
        for pid, (number, begun) in list(running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del running[pid]
                code = os.waitstatus_to_exitcode(status)
                ended[number] = KILLED if code < 0 else code
                if ended[number] in (SURVIVED, NOT_CALLED):
                    say(f"survived: {mutants[number]}")
                if len(ended) % 50 == 0:
                    counted = Counter(ended.values())
                    say(f"{len(ended)} of {len(mutants)}, {counted[KILLED]} killed")
            elif time.monotonic() - begun > PATIENCE:
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.005)
    return [ended[number] for number in range(len(mutants))]


def quietly(function: Callable[[], int]) -> None:
    """Leave this process with what a function returns, and nothing printed."""
    code = KILLED
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        code = function()
    finally:
        os._exit(code)


# ---- what came out -------------------------------------------------------------------------


def listed(file: Path) -> list[Mutant]:
    return list(mutants_of(file))


def summary_of(results: dict[Mutant, int], of: int) -> dict[str, Any]:
    files: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant, code in results.items():
        files[str(mutant.file)].update(mutants=1, killed=code == KILLED)
    killed = sum(code == KILLED for code in results.values())
    return {
        "command": shlex.join(["python", "tests/mutants/run.py", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("mutmut", "libcst", "pytest", "torch")},
        "of": of,
        "mutants": len(results),
        "killed": killed,
        "share": round(killed / len(results), 4),
        "files": {file: dict(counts) for file, counts in sorted(files.items())},
        "survivors": list(survivors(results)),
    }


def key_of(mutant: Mutant) -> tuple[str, str, str]:
    return f"{mutant.file}:{mutant.line}", mutant.before, mutant.after


def survivors_of(path: Path) -> set[tuple[str, str, str]]:
    found = json.loads(path.read_text(encoding="utf-8"))["survivors"]
    return {(each["at"], each["before"], each["after"]) for each in found}


def survivors(results: dict[Mutant, int]) -> Iterator[dict[str, Any]]:
    for mutant, code in results.items():
        if code != KILLED:
            called = {} if code == SURVIVED else {"called": False}
            place = f"{mutant.file}:{mutant.line}"
            yield {"at": place, "before": mutant.before, "after": mutant.after, **called}


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
