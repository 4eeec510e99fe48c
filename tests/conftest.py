from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from cliquegraph import cli
from tests.command import Hide, Ran, Run

# Workers of pytest-xdist share the cores; threads that wait for each other would take them all.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# XLA's optimizations take longer than these networks ever run. Commands that tests start read the
# same; one of tests/backends/test_train_flax.py trains as users do and must find the same.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

# The same examples in every run, however slow the machine.
settings.register_profile("cliquegraph", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("cliquegraph")

collect_ignore = [
    "cuda/fake_device.py",  # a program: it makes its process answer as one with a GPU
    "third_backend",  # a package of its own, with its own entry point
    "third_kind",  # another
    "mutants",  # needs mutmut, which `make mutants` installs
]
if os.environ.get("TRITON_INTERPRET") != "1":  # those that set it, in processes of their own
    collect_ignore += ["triton/interpreter.py", "triton/kernels.py", "triton/networks.py"]


def pytest_configure(config: pytest.Config) -> None:
    """Let JAX compile a program once in all workers and commands of a session.

    A folder of its own: what was compiled on another machine may not run here.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="cliquegraph-jax-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def pytest_collection_finish() -> None:
    """Spare the collector the frameworks and the tests themselves: they stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Hide:
    """Modules that can't be found any more; what is imported already stays so."""
    from cliquegraph.plugins import install

    found = install.find_spec

    def call(*modules: str) -> None:
        monkeypatch.setattr(
            install, "find_spec", lambda name: None if name in modules else found(name)
        )

    return call


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line, in this process and in the project's folder."""
    monkeypatch.chdir(Path(__file__).resolve().parent.parent)

    def call(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["cliquegraph", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
            sys.exit(0)
        captured = capsys.readouterr()
        return Ran(int(stop.value.code or 0), captured.out, captured.err)

    return call
