"""Every mutant has a process of its own, which ends with what became of it."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.mutants.mutant import Key, Mutant

PATIENCE = 30  # CPU seconds, after which a change has made something endless
MEMORY = 12 << 30  # bytes: a change may ask for more than there is

# Exit codes of a mutant's process. What fails but for a test is BROKEN, and no merit of the tests.
SURVIVED, KILLED, NOT_CALLED, ON_IMPORT, ENDLESS, BROKEN = range(6)
DEAD = (KILLED, ENDLESS)
OUTCOMES = ("survived", "killed", "not called", "on import", "endless", "broken")


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
    mutants: Sequence[Mutant], one: Callable[[Mutant], int], journal: Journal, jobs: int
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
                    code = ENDLESS if endless else BROKEN
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


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
