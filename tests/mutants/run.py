"""Which small changes of the compiler's core no test notices.

    python tests/mutants/run.py -o tests/mutants/results.json

Every mutant (``mutate.py``) has a process of its own. It is forked when the tests have been
collected, gets the code of the one function that is changed and runs the tests that call this
function, quick ones first, until one fails. What is changed outside of functions takes effect on
import: such a mutant collects the tests anew. Tests that take long, and those of Flax, don't take
part where others call the same: what survives here may still be caught by ``make test``.

How each ended is kept in ``runs/mutants``: what was broken off goes on where it was. Where the
a function has changed, what is changed in it is asked anew; where tests have, ``--again`` asks
the survivors.
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
import resource
import shlex
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "backends")]

from tests.mutants.mutate import Key, Mutant, mutants_of  # noqa: E402

CORE = (
    *("cliquegraph/steps", "cliquegraph/ir", "cliquegraph/passes", "cliquegraph/analysis"),
    *("cliquegraph/weights", "cliquegraph/lower.py", "cliquegraph/wiring.py", "cliquegraph/emit"),
    *("backends/cliquegraph_torch/spell.py", "backends/cliquegraph_torch/naming.py"),
    *("backends/cliquegraph_flax/spell.py", "backends/cliquegraph_flax/naming.py"),
)
TESTS = (
    *("steps", "ir", "passes", "analysis", "weights", "museum", "emit/test_outline.py"),
    *("test_lower.py", "test_wiring.py", "test_interpret.py", "test_official.py"),
    *("test_compiler.py", "spec/test_shipped.py", "test_figures.py", "test_errors.py"),
    *("emit/test_digests.py", "emit/test_source.py", "emit/test_code.py", "test_cli.py"),
)
LIBRARIES = ("torch", "jax", "flax.nnx", "optax", "safetensors.numpy", "rich.table", "typer")
HEAVY = (  # imported once, and not by every process
    *("cliquegraph.cli", "cliquegraph.verify", "cliquegraph.checkpoints", "cliquegraph.report"),
    *("cliquegraph_torch.backend", "cliquegraph_torch.execute", "cliquegraph_torch.pickles"),
    *("cliquegraph_flax.backend", "cliquegraph_flax.naming", "cliquegraph_flax.live"),
)
PYTEST = (
    *("-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore"),
    "--tb=native",  # the others read sources, which takes longer than a test
    *("-k", "not flax and not Flax"),
)
LONGEST = 3.0  # CPU seconds of a test that takes part, while its calls are noted
PATIENCE = 30  # CPU seconds, after which a change has made something endless
MEMORY = 12 << 30  # bytes: a change may ask for more than there is

# Exit codes of a mutant's process. What fails but for a test is BROKEN, and no merit of the tests.
SURVIVED, KILLED, NOT_CALLED, ON_IMPORT, ENDLESS, BROKEN = range(6)
DEAD = (KILLED, ENDLESS)
OUTCOMES = ("survived", "killed", "not called", "on import", "endless", "broken")

Place = tuple[str, str, int]  # file, qualified name and first line of a function
Calls = dict[str, set[tuple[str, int]]]  # of each test: file and first line of what it calls


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
    with ProcessPoolExecutor(args.jobs) as pool:
        mutants = [mutant for found in pool.map(listed, core()) for mutant in found]
    journal = Journal(args.runs / "ended.jsonl")
    asked = [
        mutant
        for mutant in mutants
        if any(part in str(mutant.file) for part in args.only)
        and (code := journal.ended.get(mutant.key, ON_IMPORT)) not in DEAD
        and (args.again or code == ON_IMPORT)
    ]
    say(f"{len(mutants)} mutants, {len(asked)} of them now")
    if asked:
        run(asked, journal, args)
    summary = summary_of({m: c for m in mutants if (c := journal.ended.get(m.key)) is not None})
    summary["of"] = len(mutants)
    text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
    if args.output:
        args.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    say(f"{summary['killed']} of {summary['mutants']} killed, {summary['share']:.1%}")
    return 0


def run(mutants: list[Mutant], journal: Journal, args: argparse.Namespace) -> None:
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


def core() -> list[Path]:
    paths = map(Path, CORE)
    return [f for path in paths for f in ([path] if path.suffix else sorted(path.glob("*.py")))]


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
            for name in (*map(module_of, core()), *LIBRARIES, *HEAVY):
                importlib.import_module(name)
            took, calls = surveyed(args.runs / "survey.pickle", session.items)
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


def surveyed(path: Path, items: list[pytest.Item]) -> tuple[dict[str, float], Calls]:
    """Return how long tests take that take part, and what each calls.

    What ``path`` holds of them is not found out again.
    """
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


def tests(args: argparse.Namespace) -> list[str]:
    return [f"tests/{name}" for name in args.tests]


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


def live_caches() -> list[Any]:
    return [each for each in gc.get_objects() if isinstance(each, functools._lru_cache_wrapper)]


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


def module_of(file: Path) -> str:
    parts = file.with_suffix("").parts
    parts = parts[1:] if parts[0] == "backends" else parts
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


class Journal:
    """How each mutant ended, in a file that every process adds its lines to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended: dict[Key, int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.read()

    def read(self) -> None:
        for line in self.path.read_text(encoding="utf-8").splitlines():
            *key, code = json.loads(line)
            self.ended[tuple(key)] = code

    def write(self, mutant: Mutant, code: int) -> None:
        self.ended[mutant.key] = code
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([*mutant.key, code], ensure_ascii=False) + "\n")


def fork_each(
    mutants: list[Mutant], one: Callable[[Mutant], int], journal: Journal, jobs: int
) -> None:
    """Let a process judge each mutant, some of them at once."""
    running: dict[int, tuple[Mutant, float]] = {}
    ended: Counter[int] = Counter()
    waiting = iter(mutants)
    while ended.total() < len(mutants):
        while len(running) < jobs and (mutant := next(waiting, None)):
            pid = os.fork()
            if not pid:
                quietly(lambda mutant=mutant: one(mutant))
            running[pid] = mutant, time.monotonic()
        for pid, (mutant, begun) in list(running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del running[pid]
                code = os.WEXITSTATUS(status)
                if os.WIFSIGNALED(status):
                    endless = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
                    code = ENDLESS if endless else KILLED
                journal.write(mutant, code)
                ended[code] += 1
                if code not in (KILLED, ON_IMPORT):
                    say(f"{OUTCOMES[code]}: {mutant}")
                if ended.total() % 50 == 0:
                    say(f"{ended.total()} of {len(mutants)}, {ended[KILLED]} killed")
            elif time.monotonic() - begun > 10 * PATIENCE:  # it waits for what never comes
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.005)


def quietly(function: Callable[[], int]) -> None:
    """Leave this process with what a function returns, and nothing printed."""
    code = BROKEN
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
        code = function()
    finally:
        os._exit(code)


# ---- what came out -------------------------------------------------------------------------


def listed(file: Path) -> list[Mutant]:
    return list(mutants_of(file))


def summary_of(results: dict[Mutant, int]) -> dict[str, Any]:
    files: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant, code in results.items():
        files[str(mutant.file)].update(mutants=1, killed=code in DEAD)
    killed = sum(code in DEAD for code in results.values())
    return {
        "command": shlex.join(["python", "tests/mutants/run.py", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("mutmut", "libcst", "pytest", "torch")},
        "mutants": len(results),
        "killed": killed,
        "share": round(killed / len(results), 4),
        "ended": {OUTCOMES[code]: count for code, count in Counter(results.values()).items()},
        "files": {file: dict(counts) for file, counts in files.items()},
        "survivors": list(survivors(results)),
    }


def survivors(results: dict[Mutant, int]) -> Iterator[dict[str, Any]]:
    for mutant, code in results.items():
        if code not in DEAD:
            ended = {} if code == SURVIVED else {"ended": OUTCOMES[code]}
            place = f"{mutant.file}:{mutant.line}"
            yield {"at": place, "before": mutant.before, "after": mutant.after, **ended}


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
