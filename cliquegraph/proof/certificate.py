"""Certificates: what was proved of a network and its files, to keep and to repeat."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
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

FORMAT = 1

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
    """

    network: NetworkSpec
    spec: str
    stages: tuple[Stage, ...]
    files: tuple[FileProof, ...]
    overrides: tuple[str, ...] = ()

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
    """Read a certificate.

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
    if "files" not in found:
        raise UsageError(f"{path} is of a hand-written model: repeat it with `cliquegraph certify`")
    if found["certificate"] != FORMAT:
        raise UsageError(f"{path} is of format {found['certificate']}, this version reads {FORMAT}")
    return found


def differences(kept: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    """Return what a repetition found different, in sentences; versions may differ."""
    found = []
    if kept["spec"]["sha256"] != again["spec"]["sha256"]:
        found.append("the spec is another one")
    for old, new in zip(kept["files"], again["files"], strict=True):
        name = f"{old['backend']} {old['option']}"
        if old["file_sha256"] != new["file_sha256"]:
            found.append(f"{name}: the generated file is another one")
        if old["trace_sha256"] != new["trace_sha256"]:
            found.append(f"{name}: the traced program is another one")
        found += [
            f"{name}: {key} {old[key]!r}, now {new[key]!r}"
            for key in ("ok", "equal", "points")
            if old[key] != new[key]
        ]
    return found
