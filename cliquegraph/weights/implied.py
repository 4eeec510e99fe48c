"""What the shapes of checkpoints imply: the authors', and those by torchvision's names."""

from __future__ import annotations

import keyword
import os
from pathlib import Path

from cliquegraph.compiler import Compilation
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
    is_of_torchvision,
    torchvision_document,
    untold,
)


def infer_spec(path: str | os.PathLike[str], name: str | None = None) -> NetworkSpec:
    """Return the network that the shapes of a checkpoint imply, the authors' or torchvision's.

    What shapes do not tell is the authors' ImageNet model, or torchvision's: images of 224×224, the
    stem's stride and pool, and in torchvision's the strides of blocks, in the 3×3 convolution of a
    bottleneck (``torchvision_implied.py``).

    Args:
        path: the checkpoint.
        name: the network's name; default: after the file.

    Raises:
        WeightsError: it is no such checkpoint, or one with tensors that fit no network.
        UsageError: no network can have that name.
    """
    return _inferred(Path(path), name)[0]


def _inferred(path: Path, name: str | None) -> tuple[NetworkSpec, str]:
    """The network that a checkpoint implies, and what of it shapes do not tell."""
    name = name or _name_after(path)
    with open_tensors(path, pickle_readers()) as source:
        found, place = source.infos, str(path)
        if is_of_torchvision(found):
            network = implied_network(found, place, name, TORCHVISION)
            return network, "\n".join(untold(torchvision_document(found, place)))
        network = implied_network(found, place, name, OFFICIAL)
        return network, f"{', '.join(UNTOLD)}: the authors' ImageNet model; shapes don't tell"


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
    """Return the spec that a checkpoint implies, as YAML.

    Args:
        path: the checkpoint.
        name: the network's name; default: after ``target``, else after ``path``.
        target: the file that the text is for.

    Raises:
        WeightsError: it is no such checkpoint, or one with tensors that fit no network.
    """
    name = name or (None if target is None else _name_after(Path(target)))
    network, comment = _inferred(Path(path), name)
    parameters = Compilation(network).cost.total.parameters
    counted = network.model_copy(update={"expect": Expect(parameters=parameters)})
    return dumps(counted, comment)


def _name_after(path: Path) -> str:
    stem = path.name.split(".")[0].lower()
    kept = "".join(each if each.isascii() and each.isalnum() else "_" for each in stem).strip("_")
    sound = kept[:1].isalpha() and not keyword.iskeyword(kept)
    return kept if sound else f"network_{kept}".rstrip("_")
