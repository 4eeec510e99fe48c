"""Certificates: what was proved of a network and its files, to keep and to repeat."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.lowering.lower import lower
from cliquegraph.proof.exact import Stage
from cliquegraph.proof.prove import FileProof
from cliquegraph.spec.dump import dumps
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.steps.unroll import unroll

if TYPE_CHECKING:
    from cliquegraph.proof.certify import Certified

FORMAT = 2

_TOOLS = ("numpy", "torch", "jax", "flax")

Document = dict[str, Any]


@dataclass(frozen=True)
class Proved:
    """What was proved of one network.

    Attributes:
        network: the declaration.
        spec: the file that declares it.
        stages: the comparisons of the op graph, after each pass.
        files: the comparisons of files.
        overrides: keys of the spec that were set.
        path: the file that was proved, if not what the compiler writes.
    """

    network: NetworkSpec
    spec: str
    stages: tuple[Stage, ...]
    files: tuple[FileProof, ...]
    overrides: tuple[str, ...] = ()
    path: str | None = None

    @property
    def ok(self) -> bool:
        """Whether everything is as declared."""
        return all(each.ok for each in self.files)

    def certificate(self) -> Document:
        """Return the certificate, as JSON values."""
        return {
            "certificate": FORMAT,
            "cliquegraph": version("cliquegraph"),
            "network": self.network.name,
            "spec": {
                "file": self.spec,
                "overrides": list(self.overrides),
                "sha256": spec_digest(self.network),
            },
            "op_graph_sha256": lower(unroll(self.network)).digest(),
            "ok": self.ok,
            **({} if self.path is None else {"path": self.path}),
            "graphs": [_of_stage(each) for each in self.stages],
            "files": [file_entry(each) for each in self.files],
            "versions": versions(),
        }


def certified_document(found: Certified, spec: str, overrides: Sequence[str]) -> Document:
    """Return the certificate of a hand-written model, as JSON values."""
    entry = file_entry(found.proof)
    model = {"model": entry.pop("backend"), "weights_map": entry.pop("option")}
    return {
        "certificate": FORMAT,
        "cliquegraph": version("cliquegraph"),
        "network": found.network.name,
        "spec": {
            "file": spec,
            "overrides": list(overrides),
            "sha256": spec_digest(found.network),
        },
        "op_graph_sha256": lower(unroll(found.network)).digest(),
        "model": {**model, **entry, "ok": found.ok},
        "ok": found.ok,
        "differences": list(found.messages),
        "notes": list(found.notes),
        "versions": versions(),
    }


def spec_digest(network: NetworkSpec) -> str:
    """Return SHA-256 of a spec's meaning: of its values, not of its text."""
    return hashlib.sha256(dumps(network).encode()).hexdigest()


def file_entry(proof: FileProof) -> Document:
    """Return a file's part of a certificate."""
    entry: Document = {
        "backend": proof.backend,
        "option": proof.option,
        "ok": proof.ok,
        "file_sha256": proof.file,
        "trace_sha256": proof.trace,
        "gradients_trace_sha256": proof.gradients_trace,
        "images": list(proof.size),
        "operators": dict(zip(("evaluation", "training"), proof.operators, strict=True)),
        "equal": dict(proof.compared),
        "points": [
            {"seed": each.seed, "primes": list(each.primes), "queries": each.queries}
            for each in proof.points
        ],
        "bound": proof.bound,
    }
    if proof.difference is not None:
        entry["difference"] = {"message": proof.difference.message, "line": proof.difference.line}
    return entry


def versions() -> dict[str, str]:
    """Return the versions of what took part, as far as it is installed."""
    found = {"python": platform.python_version()}
    for tool in _TOOLS:
        try:
            found[tool] = version(tool)
        except PackageNotFoundError:
            continue
    return found


def _of_stage(stage: Stage) -> Document:
    return {
        "passes": list(stage.passes),
        "images": list(stage.size),
        "values": stage.evidence.values,
        "statistics": stage.evidence.statistics,
        "queries": stage.evidence.queries,
        "bound": stage.evidence.bound,
    }


def read_certificate(path: Path) -> Mapping[str, Any]:
    """Read a certificate of generated files.

    Raises:
        UsageError: it is not one that this version can repeat.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict) or "certificate" not in found:
        raise UsageError(f"{path} is not a certificate, which `cliquegraph prove -o` writes")
    if found["certificate"] != FORMAT:
        raise UsageError(f"{path} is of format {found['certificate']}, this version reads {FORMAT}")
    if missing := list(_faults(found)):
        raise UsageError(f"{path} is no complete certificate: {missing[0]}")
    return found


def _faults(found: Mapping[str, Any]) -> Iterator[str]:
    """What a repetition needs and a document lacks."""
    for key, kind in _NEEDED.items():
        if not isinstance(found.get(key), kind):
            yield f"it has no {key}"
            return
    for key, kind in (("file", str), ("overrides", list), ("sha256", str)):
        if not isinstance(found["spec"].get(key), kind):
            yield f"its spec has no {key}"
    if not found["files"] and not found["graphs"]:
        yield "it has neither files nor graphs"
    seen = set()
    for each in found["files"]:
        if not isinstance(each, dict) or not each.keys() >= _FILE_KEYS:
            yield "an entry of its files is incomplete"
            return
        seeds = [point.get("seed") for point in each["points"] if isinstance(point, dict)]
        if not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
            yield "a seed is no number"
        if (each["backend"], each["option"]) in seen:
            yield f"{each['backend']} {each['option']} is there twice"
        seen.add((each["backend"], each["option"]))


_NEEDED: dict[str, type] = {"network": str, "ok": bool, "spec": dict, "graphs": list, "files": list}
_FILE_KEYS = {"backend", "option", "ok", "file_sha256", "trace_sha256", "images", "operators"} | {
    "gradients_trace_sha256",
    "equal",
    "points",
    "bound",
}


def differences(kept: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    """Return what a repetition found different, in sentences; versions may differ."""
    found = []
    if kept["spec"]["sha256"] != again["spec"]["sha256"]:
        found.append("the spec is another one")
    for key in ("network", "ok", "op_graph_sha256", "graphs"):
        if kept.get(key) != again[key]:
            found.append(f"{key} is different")
    ours = {(each["backend"], each["option"]): each for each in again["files"]}
    for old in kept["files"]:
        name = f"{old['backend']} {old['option']}"
        new = ours.get((old["backend"], old["option"]))
        if new is None:
            found.append(f"{name}: was not proved again")
            continue
        if old["file_sha256"] != new["file_sha256"]:
            found.append(f"{name}: the generated file is another one")
        traces = ("trace_sha256", "gradients_trace_sha256")
        if any(old[each] != new[each] for each in traces):
            found.append(f"{name}: the traced program is another one")
        found += [
            f"{name}: {key} {old[key]!r}, now {new[key]!r}"
            for key in ("ok", "images", "operators", "equal", "points", "bound")
            if old[key] != new[key]
        ]
    return found
