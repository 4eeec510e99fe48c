"""Inference of specs from the shapes of checkpoints: the authors', and torchvision's."""

from __future__ import annotations

import keyword
import os
from pathlib import Path

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.arguments import describe_type
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.plugins.pickles import pickle_readers
from cliquegraph.spec.dump import dumps
from cliquegraph.spec.network import NetworkSpec
from cliquegraph.spec.schema import Expect
from cliquegraph.weights.formats import OFFICIAL, TORCHVISION
from cliquegraph.weights.identity import (
    UNTOLD,
    Difference,
    implied_network,
    official_differences,
)
from cliquegraph.weights.tensors import open_tensors
from cliquegraph.weights.torchvision_implied import (
    has_torchvision_names,
    torchvision_document,
    untold,
)


def infer_spec(path: str | os.PathLike[str], name: str | None = None) -> NetworkSpec:
    """Return the network implied by the shapes of a checkpoint, the authors' or torchvision's.

    What shapes do not determine is taken from the authors' ImageNet model, or torchvision's: images
    of 224×224, the stem's stride and pool, and for torchvision the strides of blocks, in the 3×3
    convolution of a bottleneck (``torchvision_implied.py``).

    Args:
        path: the checkpoint.
        name: the network's name; default: derived from the file's.

    Raises:
        WeightsError: it is not such a checkpoint, or its tensors match no network.
        UsageError: the name is not valid, or ``path`` is not a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"expected the path of a checkpoint, found {describe_type(path)}")
    return _inferred(Path(path), name)[0]


def _inferred(path: Path, name: str | None) -> tuple[NetworkSpec, str]:
    """The network implied by a checkpoint, and a note on what shapes do not determine."""
    name = name or _name_after(path)
    with open_tensors(path, pickle_readers()) as source:
        infos, place = source.infos, str(path)
        if has_torchvision_names(infos):
            network = implied_network(infos, place, name, TORCHVISION)
            return network, "\n".join(untold(torchvision_document(infos, place)))
        network = implied_network(infos, place, name, OFFICIAL)
        return (
            network,
            f"{', '.join(UNTOLD)}: from the authors' ImageNet model; shapes do not tell",
        )


def check_official(network: NetworkSpec, path: str | os.PathLike[str]) -> list[Difference]:
    """Return the differences between the network implied by an official checkpoint and a spec.

    Raises:
        WeightsError: it is not an official checkpoint.
    """
    path = Path(path)
    with open_tensors(path, pickle_readers()) as source:
        return official_differences(network, source.infos, str(path))


def inferred_text(
    path: str | os.PathLike[str],
    name: str | None = None,
    target: str | os.PathLike[str] | None = None,
) -> str:
    """Return the spec implied by a checkpoint, as YAML.

    Args:
        path: the checkpoint.
        name: the network's name; default: derived from ``target``, else from ``path``.
        target: the file to which the text will be written.

    Raises:
        WeightsError: it is not such a checkpoint, or its tensors match no network.
    """
    name = name or (None if target is None else _name_after(Path(target)))
    network, comment = _inferred(Path(path), name)
    parameters = Compilation(network).cost.total.parameters
    with_expect = network.model_copy(update={"expect": Expect(parameters=parameters)})
    return dumps(with_expect, comment)


def _name_after(path: Path) -> str:
    stem = path.name.split(".")[0].lower()
    name = "".join(each if each.isascii() and each.isalnum() else "_" for each in stem).strip("_")
    valid = name[:1].isalpha() and not keyword.iskeyword(name)
    return name if valid else f"network_{name}".rstrip("_")
