"""Writes ``docs/clients.md``: what comes of each client at each level, by running them.

``python -m tests.clients.table`` runs those that are installed and writes ``recorded.json`` and
the page. Outcomes of others stay as they were recorded.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import jax
import torch

from tests.clients import flax, pytorch
from tests.clients.client import EVERY, Client, Outcome, Sample, outcomes
from tests.networks import network, shipped

RECORD = Path(__file__).parent / "recorded.json"
PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
CLIENTS = {"torch": pytorch.CLIENTS, "flax": flax.CLIENTS}
DISTRIBUTIONS = {"pytorch_grad_cam": "grad-cam", "pytorch_lightning": "pytorch-lightning"}
NETWORKS = {
    "torch": shipped("quickstart", "blocks.*.layers=2", "blocks.*.filters=4", "expect={}"),
    "flax": network({"layers": 2, "filters": 2}, transition={"attention": True}),
}
TEMPLATE = Path(__file__).parent / "page.md"

Rows = dict[str, dict[str, Outcome]]


def samples(backend: str) -> dict[str, Sample]:
    return {level: Sample(NETWORKS[backend], backend, level) for level in EVERY}


def run(client: Client, samples: Mapping[str, Sample], backend: str) -> dict[str, Outcome]:
    """What comes of a client; Flax in 64 bits."""
    with warnings.catch_warnings(), jax.enable_x64(backend == "flax"):
        warnings.simplefilter("ignore")  # clients warn of their own and PyTorch's deprecations
        return outcomes(client, samples)


def recorded() -> tuple[dict[str, Rows], dict[str, str]]:
    """The recorded outcomes of each backend's clients, and the versions of their packages."""
    if not RECORD.exists():
        return {backend: {} for backend in CLIENTS}, {}
    document = json.loads(RECORD.read_text(encoding="utf-8"))
    rows = {
        backend: {
            name: {level: Outcome(*pair) for level, pair in row.items()}
            for name, row in document[backend].items()
        }
        for backend in CLIENTS
    }
    return rows, document["versions"]


def page(rows: Mapping[str, Rows], versions: Mapping[str, str]) -> str:
    """The text of the page."""
    tables = {name: "".join(table(CLIENTS[name], rows[name])) for name in CLIENTS}
    listed = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    return TEMPLATE.read_text(encoding="utf-8").format(**tables, versions=listed)


def table(clients: tuple[Client, ...], rows: Rows) -> Iterator[str]:
    yield f"| client | {' | '.join(EVERY)} |\n|---|---|---|---|---|\n"
    texts: list[str] = []
    for client in clients:
        row = rows[client.name]
        is_plain = all(each == Outcome("works") for each in row.values())
        advice = "" if is_plain else client.advice
        cells = [cell(row[level], advice, texts) if level in row else "–" for level in EVERY]
        yield f"| {client.name}{' †' if external(client) else ''} | {' | '.join(cells)} |\n"
    yield "\n" if texts else ""
    yield from (f"{number}. {text}\n" for number, text in enumerate(texts, 1))


def cell(outcome: Outcome, advice: str, texts: list[str]) -> str:
    if not outcome.text:
        return outcome.verdict
    code = f"`{outcome.text}`" if outcome.verdict == "refused" else outcome.text
    text = ". ".join(filter(None, (code, advice)))
    if text not in texts:
        texts.append(text)
    return f"{outcome.verdict} ({texts.index(text) + 1})"


def external(client: Client) -> bool:
    """Whether a client's packages are not among the project's own."""
    return bool(set(client.packages) - {"pytorch_lightning"})


def main() -> None:
    """Run the installed clients; write the record and the page."""
    torch.set_num_threads(1)
    rows, versions = recorded()
    for backend, clients in CLIENTS.items():
        kept, each = rows[backend], samples(backend)
        rows[backend] = {
            client.name: run(client, each, backend) if client.is_installed else kept[client.name]
            for client in clients
        }
        for client in filter(external, clients):
            if client.is_installed:
                names = [DISTRIBUTIONS.get(package, package) for package in client.packages]
                versions |= {name: version(name) for name in names}
    document = {
        "versions": versions,
        **{
            backend: {
                name: {level: [each.verdict, each.text] for level, each in row.items()}
                for name, row in rows[backend].items()
            }
            for backend in CLIENTS
        },
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    RECORD.write_text(f"{text}\n", encoding="utf-8")
    PAGE.write_text(page(rows, versions), encoding="utf-8")


if __name__ == "__main__":
    main()
