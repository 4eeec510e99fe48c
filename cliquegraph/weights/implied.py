"""What the shapes of the authors' checkpoints imply."""

from __future__ import annotations

import keyword
import os
from pathlib import Path

from cliquegraph.compiler import Compilation
from cliquegraph.plugins.pickles import pickle_readers
from cliquegraph.spec.dump import dumps
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import Expect
from cliquegraph.weights.identity import (
    UNTOLD,
    Difference,
    implied_network,
    official_differences,
)
from cliquegraph.weights.tensors import open_tensors


def infer_spec(path: str | os.PathLike[str], name: str | None = None) -> NetworkSpec:
    """Return the network that the shapes of an official checkpoint imply.

    What shapes do not tell is the authors' ImageNet model: images of 224×224, the stem's stride
    and pool.

    Args:
        path: the checkpoint.
        name: the network's name; default: after the file.

    Raises:
        WeightsError: it is no official checkpoint, or one with tensors that fit no network.
        UsageError: no network can have that name.
    """
    path = Path(path)
    with open_tensors(path, pickle_readers()) as source:
        return implied_network(source.infos, str(path), name or _name_after(path))


def check_official(network: NetworkSpec, path: str | os.PathLike[str]) -> list[Difference]:
    """Return where the network that an official checkpoint implies differs from a spec.

    Raises:
        WeightsError: it is no official checkpoint.
    """
    path = Path(path)
    with open_tensors(path, pickle_readers()) as source:
        return official_differences(network, source.infos, str(path))


def inferred_text(
    path: str | os.PathLike[str],
    name: str | None = None,
    target: str | os.PathLike[str] | None = None,
) -> str:
    """Return the spec that an official checkpoint implies, as YAML.

    Args:
        path: the checkpoint.
        name: the network's name; default: after ``target``, else after ``path``.
        target: the file that the text is for.

    Raises:
        WeightsError: it is no official checkpoint, or one with tensors that fit no network.
    """
    network = infer_spec(path, name or (None if target is None else _name_after(Path(target))))
    parameters = Compilation(network).cost.total.parameters
    counted = network.model_copy(update={"expect": Expect(parameters=parameters)})
    return dumps(counted, f"{', '.join(UNTOLD)}: the authors' ImageNet model; shapes don't tell")


def _name_after(path: Path) -> str:
    stem = path.name.split(".")[0].lower()
    kept = "".join(each if each.isascii() and each.isalnum() else "_" for each in stem).strip("_")
    sound = kept[:1].isalpha() and not keyword.iskeyword(kept)
    return kept if sound else f"network_{kept}".rstrip("_")
