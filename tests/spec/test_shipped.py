"""The specs of the paper's networks: their figures, counted by hand from the paper."""

import re
from pathlib import Path

import pytest

from cliquegraph.blocks.clique import CliqueBlock
from cliquegraph.blocks.dense import DenseBlock
from cliquegraph.blocks.residual import ResidualBlock
from cliquegraph.spec.load import load
from cliquegraph.spec.network import NetworkSpec
from tests.spec.counts import Count
from tests.spec.test_shipped_graphs import NETWORKS

FOLDER = Path(__file__).parents[2] / "specs"
SPECS = sorted(FOLDER.glob("*.yaml"))

SMALL = ("fashion", "quickstart")
"""Ours; the others are the paper's."""

PAPERS = [path for path in SPECS if path.stem not in NETWORKS]
"""Networks of the tables; those of loops and graphs are in test_shipped_graphs.py."""

NAMES = {
    *SMALL,
    *(f"cliquenet_s{i}{star}" for i in range(4) for star in ("", "_star")),
    *(f"cliquenet_k36_t12{extras}" for extras in ("", "_a", "_c", "_ac")),
    *(f"cliquenet_k36_t15_{stages}" for stages in ("i_i", "i_ii", "ii_ii")),
    *("cliquenet_k64_t15", "cliquenet_k80_t15", "cliquenet_k80_t15_ac", "cliquenet_k80_t18"),
    "cliquenet_k150_t30_abc",
    *("densenet_k12_t36", "densenet_k12_t96", "densenet_k24_t96"),
    *("densenet_k12_t96_bc", "densenet_k24_t246_bc"),
    *("densenet121", "resnet18", "resnet34", "resnet50", "resnet50_v1"),
    "resnet110_stochastic_depth",
    *NETWORKS,
}

EXACT = {
    "cliquenet_k36_t12": 935_994,
    "cliquenet_k64_t15": 4_485_706,
    "cliquenet_k80_t15": 6_937_546,
    "cliquenet_k80_t18": 10_135_594,
    "cliquenet_k36_t12_a": 977_898,
    "cliquenet_k36_t12_c": 1_037_434,
    "cliquenet_k36_t12_ac": 1_079_338,
    "cliquenet_k80_t15_ac": 7_998_138,
    "cliquenet_k150_t30_abc": 10_022_035,
    "cliquenet_s0_star": 5_703_728,
    "cliquenet_s0": 6_245_330,
    "cliquenet_s1_star": 7_956_776,
    "cliquenet_s1": 8_740_046,
    "cliquenet_s2_star": 10_003_756,
    "cliquenet_s2": 11_008_376,
    "cliquenet_s3_star": 13_170_904,
    "cliquenet_s3": 14_383_024,
    "densenet_k12_t36": 1_019_722,
    "densenet_k12_t96": 6_979_642,
    "densenet_k24_t96": 27_249_082,
    "densenet_k12_t96_bc": 769_162,
    "densenet_k24_t246_bc": 15_324_406,
    "densenet121": 7_978_856,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet50_v1": 25_557_032,
    "resnet110_stochastic_depth": 1_727_962,
}
"""Parameters, known without this compiler."""


def clique(count: Count, block: CliqueBlock, c: int, pixels: int) -> tuple[int, int]:
    """Two stages of a full clique, or one; return the channels of its feature and transit."""
    n, k, area = block.layers, block.filters, block.kernel**2
    edge = k * k * (1 if block.bottleneck else area)
    pairs = n * (n - 1)
    assert block.stages in (1, 2)
    second = block.stages - 1
    count.kernel(n * c * k * (1 if block.bottleneck else area), pixels)
    # Forward pairs work in both stages, backward pairs in the second only.
    count.kernel(pairs // 2 * edge, pixels, uses=1 + second)
    count.kernel(pairs // 2 * edge * second, pixels)
    count.norm(n * c + pairs // 2 * k + second * pairs * k)
    if block.bottleneck:
        count.kernel(n * k * k * area, pixels, uses=block.stages)
        count.norm(block.stages * n * k)
    return c + n * k, n * k


def dense(count: Count, block: DenseBlock, c: int, pixels: int) -> tuple[int, int]:
    k, factor = block.filters, block.bottleneck
    for inputs in range(c, c + block.layers * k, k):
        count.norm(inputs)
        middle = inputs
        if factor:
            middle = factor * k
            count.kernel(inputs * middle, pixels)
            count.norm(middle)
        count.kernel(middle * k * 9, pixels)
    return c + block.layers * k, c + block.layers * k


def residual(count: Count, block: ResidualBlock, c: int, before: int, after: int) -> int:
    """Return the channels; ``before`` and ``after`` are the pixels of X0 and of the units."""
    k = block.filters
    for _ in range(block.layers):
        if block.unit == "basic":
            wide = k
            count.kernel(9 * c * k, after)
            count.kernel(9 * k * k, after)
            count.norm(2 * k)
        else:
            wide = 4 * k
            count.kernel(c * k, after if block.reduce_in == "first" else before)
            count.kernel(9 * k * k, after)
            count.kernel(k * wide, after)
            count.norm(2 * k + wide)
        if (c, before) != (wide, after) and block.shortcut == "projection":
            count.kernel(c * wide, after)
            count.norm(wide)
        c, before = wide, after
    return c


def by_hand(spec: NetworkSpec) -> Count:
    count, vector = Count(), 0
    size = spec.input.height // spec.stem.stride
    c = spec.stem.filters
    count.kernel(spec.input.channels * c * spec.stem.kernel**2, size**2)
    if spec.stem.norm:
        count.norm(c)
    if spec.stem.pool:
        size //= spec.stem.pool.stride
    for block in spec.blocks:
        last = block is spec.blocks[-1]
        if isinstance(block, CliqueBlock):
            feature, transit = clique(count, block, c, size**2)
        elif isinstance(block, ResidualBlock):
            before = size
            size //= block.stride
            feature = transit = residual(count, block, c, before**2, size**2)
        else:
            feature, transit = dense(count, block, c, size**2)
        if last or spec.readout.blocks == "all":
            if spec.readout.compression:
                kept = int(feature * spec.readout.compression)
                count.norm(feature)
                count.kernel(feature * kept, size**2)
                feature = kept
            if spec.readout.norm:
                count.norm(feature)
            vector += feature
        if spec.transition is None:
            c = transit
        elif not last:
            c = int(transit * spec.transition.compression)
            count.norm(transit)
            count.kernel(transit * c, size**2)
            if spec.transition.attention:
                count.linear(c, c // 2)
                count.linear(c // 2, c)
            size //= 2
    count.linear(vector, spec.classifier.classes)
    return count


def test_every_network_is_there() -> None:
    assert {path.stem for path in SPECS} == NAMES


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_figures(path: Path) -> None:
    spec = load(path)
    count = by_hand(spec)
    figures = spec.expect.figures()
    computed = {"macs": count.macs, "flops": 2 * count.macs}
    assert figures["parameters"].matches(count.parameters)
    assert all(figures[key].matches(n) for key, n in computed.items() if key in figures)
    assert figures.keys() & computed.keys()
    assert EXACT.get(path.stem, count.parameters) == count.parameters


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_names_and_form(path: Path) -> None:
    spec = load(path)
    assert spec.name == path.stem
    assert spec.class_name is not None
    # I and II are no part of a class name: IIII would be read in two ways.
    stages = {"_i_i": "_f1t1", "_i_ii": "_f1t2", "_ii_ii": "_f2t2"}
    name = re.sub("_i+_i+$", lambda match: stages[match[0]], path.stem)
    assert spec.class_name.lower() == name.replace("_", "")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=./cliquegraph.schema.json"
    assert lines[1].startswith("# ")
    assert all(len(line) <= 100 and line == line.rstrip() for line in lines)


def test_class_names_differ() -> None:
    assert len({load(path).python_class for path in SPECS}) == len(SPECS)


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_dropout_is_that_of_section_4_1(path: Path) -> None:
    spec = load(path)
    assert spec.training is not None
    rate = 0.0 if spec.training.recipe == "imagenet" or path.stem in SMALL else 0.2
    assert {block.dropout for block in spec.blocks if block.kind != "residual"} <= {rate}
    assert spec.transition is None or spec.transition.dropout == rate
    assert spec.readout.dropout == (rate if spec.readout.compression else 0.0)
