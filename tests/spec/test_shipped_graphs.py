"""The specs of recurrent, fractal, sparse and randomly wired networks, counted by hand.

Nothing here is unrolled, and no topology is read from the compiler: the two random ones are drawn
once more.
"""

from collections.abc import Callable
from hashlib import sha256
from itertools import count as numbers
from pathlib import Path

import pytest

from cliquegraph.spec.load import load
from tests.spec.counts import Count

FOLDER = Path(__file__).parents[2] / "specs"


def rcnn(k: int) -> Count:
    count = Count()
    count.kernel(25 * 3 * k, 32**2)
    count.bias(k)
    for side in (16, 16, 8, 8):
        count.kernel(9 * k * k, side**2, uses=4)
        count.kernel(9 * k * k, side**2, uses=3)
        count.bias(k)
    count.linear(k, 10)
    return count


def fractalnet() -> Count:
    count, c, side = Count(), 3, 32
    for k in (64, 128, 256, 512, 512):
        count.kernel(9 * (3 * c * k + 4 * k * k), side**2)  # each column reads X0 once
        count.norm(7 * k)
        c, side = k, side // 2
    count.linear(c, 10)
    return count


def cornet_s() -> Count:
    count, side = Count(), 56
    count.kernel(49 * 3 * 64, 112**2)
    count.kernel(9 * 64 * 64, side**2)
    count.norm(64 + 64)
    c = 64
    for k, visits in ((128, 2), (256, 4), (512, 2)):
        count.kernel(c * k, side**2)
        count.kernel(4 * k * k, side**2)
        side //= 2
        count.macs += 4 * k * k * side**2 * (visits - 1)  # after the stride
        count.kernel(9 * 16 * k * k, side**2, uses=visits)
        count.kernel(4 * k * k, side**2, uses=visits)
        count.norm(visits * (4 * k + 4 * k + k))
        count.kernel(k * k, side**2)  # the shortcut of the first visit
        count.norm(k)
        c = k
    count.linear(c, 1000)
    return count


def cornet_r() -> Count:
    """CORnet-RT too: it reads other versions of the same layers."""
    count, c, side, kernel, uses = Count(), 3, 56, 49, 5
    for k in (64, 128, 256, 512):
        count.kernel(kernel * c * k, side**2, uses)
        count.bias(k)
        count.kernel(9 * k * k, side**2, uses=5)
        count.norm(k + k)
        c, side, kernel, uses = k, side // 2, 9, 4  # nothing is read before the second stage
    count.linear(c, 1000)
    return count


def bl() -> Count:
    count, c, side = Count(), 3, 128
    widths, kernels = (96, 128, 192, 256, 512, 1024, 2048), (7, 5, 3, 3, 3, 3, 1)
    for k, kernel in zip(widths, kernels, strict=True):
        count.kernel(kernel**2 * c * k, side**2, uses=8)
        count.kernel(kernel**2 * k * k, side**2, uses=7)
        count.norm(8 * k)
        c, side = k, side // 2
    count.linear(c, 565)
    return count


def blt() -> Count:
    count = Count()
    count.kernel(25 * 3 * 32, 64**2, uses=5)
    count.kernel(9 * 32 * 64, 32**2, uses=5)
    count.kernel(9 * 64 * 128, 16**2, uses=5)
    count.kernel(32 * 128, 16**2, uses=5)  # V1 to V4
    count.kernel(64 * 32, 32**2, uses=4)  # top-down, before the upsampling
    count.kernel(128 * 64, 16**2, uses=4)
    for k, side in ((32, 64), (64, 32), (128, 16)):
        count.kernel(9 * k * k, side**2, uses=4)
        count.norm(5 * k)
    count.linear(128, 10)
    return count


def feedback_chain() -> Count:
    count = Count()
    count.kernel(9 * 3 * 32, 32**2)
    count.norm(32)
    kernel = 9 * 32 * 32
    count.kernel(kernel, 32**2, uses=4)  # X0, by the first layer in each stage
    count.kernel(3 * kernel, 32**2, uses=4)  # bottom-up
    count.kernel(3 * kernel, 32**2, uses=3)  # top-down
    count.kernel(4 * kernel, 32**2, uses=3)  # lateral
    count.norm(4 * 4 * 32)
    count.linear(32, 10)
    return count


Pairs = set[frozenset[int]]


def small_world(n: int, neighbours: int, rewire: float, seed: int) -> Pairs:
    """A Watts–Strogatz graph of the layers 1 to n, as docs/spec.md describes it."""
    draws = (
        int.from_bytes(sha256(f"{seed}:{c}".encode()).digest()[:8], "big") / 2**64
        for c in numbers()
    )
    distances = range(1, neighbours // 2 + 1)
    joined = {frozenset((i, (i + d) % n)) for d in distances for i in range(n)}
    for d in distances:
        for i in range(n):
            if next(draws) < rewire:
                free = [t for t in range(n) if t != i and frozenset((i, t)) not in joined]
                joined.remove(frozenset((i, (i + d) % n)))
                joined.add(frozenset((i, free[int(next(draws) * len(free))])))
    return {frozenset(i + 1 for i in pair) for pair in joined}


def randwire() -> Count:
    count, c, side = Count(), 78, 56
    count.kernel(9 * 3 * 39, 112**2)
    count.kernel(9 * 39 * 78, side**2)
    count.norm(39 + 78)
    for seed, k in ((1, 78), (2, 156), (3, 312)):
        side //= 2
        pairs = small_world(32, 4, 0.75, seed)
        sources = 32 - len({max(pair) for pair in pairs})
        count.parameters += len(pairs) + sources  # gates
        for nodes, inputs in ((sources, c), (32 - sources, k)):
            count.kernel(nodes * (9 * inputs + inputs * k), side**2)
        count.norm(32 * k)
        c = k
    count.kernel(c * 1280, side**2)
    count.norm(1280)
    count.linear(1280, 1000)
    return count


def clique_small_world() -> Count:
    count, c, side, n, k, vector = Count(), 64, 32, 12, 36, 0
    count.kernel(9 * 3 * c, side**2)
    pairs = len(small_world(n, 4, 0.5, 1))
    for last in (False, False, True):
        count.kernel(9 * n * c * k, side**2)
        count.kernel(9 * pairs * k * k, side**2, uses=2)  # to higher layers
        count.kernel(9 * pairs * k * k, side**2)
        count.kernel(9 * n * k * k, side**2)  # itself
        count.norm(n * c + pairs * k + (2 * pairs + n) * k)
        count.norm(c + n * k)
        vector += c + n * k
        if not last:
            count.norm(n * k)
            count.kernel(n * k * n * k, side**2)
        c, side = n * k, side // 2
    count.linear(vector, 10)
    return count


NETWORKS: dict[str, Callable[[], Count]] = {
    "rcnn_96": lambda: rcnn(96),
    "rcnn_128": lambda: rcnn(128),
    "rcnn_160": lambda: rcnn(160),
    "fractalnet20": fractalnet,
    "cornet_s": cornet_s,
    "cornet_r": cornet_r,
    "cornet_rt": cornet_r,
    "bl": bl,
    "randwire": randwire,
    "blt": blt,
    "feedback_chain": feedback_chain,
    "clique_small_world": clique_small_world,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_figures(name: str) -> None:
    expect, count = load(FOLDER / f"{name}.yaml").expect, NETWORKS[name]()
    assert (expect.parameters, expect.macs) == (count.parameters, count.macs)
