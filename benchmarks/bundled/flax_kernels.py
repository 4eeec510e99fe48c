"""What a program compiled by XLA launches: counted in its text, or traced on a GPU."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
from jax.profiler import ProfileData, ProfileOptions

from benchmarks.bundled.kernels import Kernels, Launch

# ---- counted in the compiled program -------------------------------------------------------

_COMPUTATION = re.compile(r"(ENTRY )?%?(\S+) \(.*\{")
_INSTRUCTION = re.compile(r"(?:ROOT )?%?\S+ = .*? ([a-z][a-z0-9-]*)\(")
_CALLED = re.compile(
    r"\b(?:to_apply|calls|body|condition|(?:true|false)_computation|branch_computations)="
    r"(\{[^}]*\}|%?[\w.-]+)"
)
_NOTHING = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast"),
    *("after-all", "add-dependency", "opt-barrier", "async-update"),
}
"""Instructions that name or reinterpret values, and launch nothing."""
_NESTED = {"call", "while", "conditional", "async-start"}
"""Instructions that launch what the computations they call launch."""
_INLINED = 'xla_cpu_small_call="true"'
"""The attribute of a call that XLA's CPU compiler turns into a single kernel."""


def launched(text: str) -> Counter[str]:
    """Count the instructions that an optimized program launches, by opcode.

    Those of called computations count too; a loop's body and each branch count once. On a GPU a
    fusion is one kernel, or a few; a ``custom-call`` is what a library launches, for example cuDNN
    for a convolution.

    Args:
        text: the program as ``compiled.as_text()`` prints it.
    """
    computations: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        if (header := _COMPUTATION.fullmatch(line)) is not None:
            name = header[2]
            computations[name] = []
            entry = name if header[1] else entry
        elif line.startswith(" ") and name:
            computations[name].append(line.strip())
    return _launched(computations, entry)


def _launched(computations: dict[str, list[str]], name: str) -> Counter[str]:
    """Count those of one computation and of the computations that it calls."""
    count: Counter[str] = Counter()
    for line in computations[name]:
        instruction = _INSTRUCTION.match(line)
        if instruction is None:
            continue
        opcode = instruction[1]
        if opcode in _NESTED and _INLINED not in line:
            for called in _CALLED.findall(line):
                for each in re.findall(r"[\w.-]+", called):
                    count += _launched(computations, each)
        elif opcode not in _NOTHING and not opcode.endswith("-done"):
            count[opcode] += 1
    return count


# ---- traced on a GPU -----------------------------------------------------------------------


def traced(call: Callable[[], object]) -> ProfileData:
    """Return the profile of a call that waits for its result."""
    options = ProfileOptions()
    options.python_tracer_level = 0
    with TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            call()
        (path,) = Path(folder).rglob("*.xplane.pb")
        return ProfileData.from_file(str(path))


def kernels_of(profile: ProfileData) -> Kernels:
    """Summarize a profile of a CUDA device.

    Raises:
        RuntimeError: the profile does not contain each kernel.
    """
    kernels = Kernels.of(_launches(profile))
    if not kernels.count:
        raise RuntimeError("the profile has no kernels; does JAX find CUPTI?")
    return kernels


def _launches(profile: ProfileData) -> Iterator[Launch]:
    """Yield what the streams of the device execute.

    XLA's collector gives each event the details of its kind; allocations have others.
    """
    for plane in profile.planes:
        if not plane.name.startswith("/device:GPU:"):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream #"):  # the others group the same events anew
                continue
            for event in line.events:
                details = {name for name, _ in event.stats}
                if "cuda_graph_exec_id" in details:
                    raise RuntimeError("the profile has whole CUDA graphs in place of kernels")
                if details & {"kernel_details", "memcpy_details", "Memset_details"}:
                    start, end = event.start_ns * 1e-9, event.end_ns * 1e-9
                    yield Launch(event.name, start, end, "kernel_details" in details)
