"""``docs/clients.md`` says what comes of each client, and no level is silently wrong."""

from __future__ import annotations

import pytest

from tests.clients.client import Client, Sample
from tests.clients.table import CLIENTS, PAGE, page, recorded, run, samples

CASES = [(backend, client) for backend in CLIENTS for client in CLIENTS[backend]]
NAMES = [f"{backend}: {client.name}" for backend, client in CASES]


@pytest.fixture(scope="module")
def networks() -> dict[str, dict[str, Sample]]:
    return {backend: samples(backend) for backend in CLIENTS}


@pytest.mark.parametrize(("backend", "client"), CASES, ids=NAMES)
def test_a_client_gets_what_the_page_says(
    backend: str, client: Client, networks: dict[str, dict[str, Sample]]
) -> None:
    for package in client.packages:
        pytest.importorskip(package)
    rows, _ = recorded()
    assert run(client, networks[backend], backend) == rows[backend][client.name]


def test_the_page_is_what_was_recorded() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(*recorded())
    rows, _ = recorded()
    assert {(b, name) for b in rows for name in rows[b]} == {(b, c.name) for b, c in CASES}


@pytest.mark.parametrize(("backend", "client"), CASES, ids=NAMES)
def test_what_is_refused_above_o0_names_the_way_out(backend: str, client: Client) -> None:
    rows, _ = recorded()
    row = rows[backend][client.name]
    refused = [each.text for each in row.values() if each.verdict == "refused"]
    assert all("-O0" in text + client.advice for text in refused)
    assert row["-O0"].verdict == "works" or client.advice
