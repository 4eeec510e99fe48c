"""What ``certify`` prints."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from cliquegraph.cli.tables.prove import proof_table
from cliquegraph.proof.certify import Certified


def result_table(found: Certified) -> Table:
    """Return what was compared: how many numbers of each group are equal."""
    height, width = found.proof.size
    title = f"{found.network.name}: the model as traced, on images of {height}×{width}"
    return proof_table(title, "model", ((found.model, found.proof),))


def notes(found: Certified) -> Iterator[str]:
    """Return the verdict and what led to it, in sentences."""
    name, network = found.model, found.network.name
    yield from found.notes
    if found.ok:
        yield f"{name} is {network}"
    elif found.findings:
        yield f"{name} is not {network} with the tensors of {found.map}:"
        yield from (f"  {each}" for each in found.findings[:20])
        if len(found.findings) > 20:
            yield f"  and {len(found.findings) - 20} more"
    elif found.proof.difference is not None:
        yield f"{name} is not {network}: {found.proof.difference}"
    else:
        yield f"{name}: equal, but the error probability is not below 2^-60"
