"""Figures of compiled networks: the paper's, and any other against closed formulas."""

from pathlib import Path

import pytest

from cliquegraph.analysis.cost import Cost
from cliquegraph.compiler import Compilation
from cliquegraph.spec.load import load

SPECS = Path(__file__).parents[1] / "specs"

PARAMETERS = {
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
    "cliquenet_s1_star": 7_956_776,
    "cliquenet_s2_star": 10_003_756,
    "cliquenet_s3_star": 13_170_904,
    "cliquenet_s0": 6_245_330,
    "cliquenet_s1": 8_740_046,
    "cliquenet_s2": 11_008_376,
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

MACS = {
    "densenet121": 2_834_161_664,
    "resnet18": 1_814_073_344,
    "resnet34": 3_663_761_408,
    "resnet50": 4_089_184_256,
    "resnet50_v1": 3_857_973_248,
    "resnet110_stochastic_depth": 252_887_680,
}

GIGA_MACS = {
    "cliquenet_k36_t12": "0.455",
    "cliquenet_k64_t15": "2.103",
    "cliquenet_k80_t15": "3.226",
    "cliquenet_k80_t18": "4.727",
    "cliquenet_k36_t12_a": "0.455",
    "cliquenet_k36_t12_c": "0.491",
    "cliquenet_k36_t12_ac": "0.491",
    "cliquenet_k80_t15_ac": "3.438",
    "cliquenet_k150_t30_abc": "4.243",
    "cliquenet_s0_star": "2.225",
    "cliquenet_s1_star": "2.906",
    "cliquenet_s2_star": "3.028",
    "cliquenet_s3_star": "4.073",
    "cliquenet_s0": "2.225",
    "cliquenet_s1": "2.906",
    "cliquenet_s2": "3.028",
    "cliquenet_s3": "4.073",
}
"""Convolutions and the classifier; the linear layers of the attention come on top."""

GIGA_FLOPS = {
    "densenet_k12_t36": "0.530",
    "densenet_k12_t96": "3.539",
    "densenet_k24_t96": "13.779",
    "densenet_k12_t96_bc": "0.576",
    "densenet_k24_t246_bc": "10.838",
}


def compiled(name: str, *overrides: str) -> Cost:
    return Compilation(load(SPECS / f"{name}.yaml", overrides)).cost.total


def attention_macs(channels: list[int]) -> int:
    """Two linear layers in each transition, C to C//2 and back."""
    return sum(2 * c * (c // 2) for c in channels)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_to_the_unit(name: str) -> None:
    assert compiled(name).parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", GIGA_MACS)
def test_macs_to_the_digits_known(name: str) -> None:
    spec = load(SPECS / f"{name}.yaml")
    macs = Compilation(spec).cost.total.macs
    assert spec.transition is not None
    if spec.transition.attention:
        macs -= attention_macs([block.layers * block.filters for block in spec.blocks[:-1]])
    assert f"{macs / 1e9:.3f}" == GIGA_MACS[name]


@pytest.mark.parametrize("name", MACS)
def test_macs_to_the_unit(name: str) -> None:
    assert compiled(name).macs == MACS[name]


@pytest.mark.parametrize("name", GIGA_FLOPS)
def test_flops_to_the_digits_known(name: str) -> None:
    assert f"{compiled(name).flops / 1e9:.3f}" == GIGA_FLOPS[name]


@pytest.mark.parametrize("name", sorted(path.stem for path in SPECS.glob("*.yaml")))
def test_every_shipped_spec_has_the_figures_that_it_expects(name: str) -> None:
    compilation = Compilation(load(SPECS / f"{name}.yaml"))
    keys = {each.key for each in compilation.comparisons}
    assert "parameters" in keys
    assert keys & {"macs", "flops"}
    assert [str(each) for each in compilation.comparisons if not each.holds] == []


def clique_by_formula(
    k: int, n: int, stages: int, attention: bool, compression: bool
) -> tuple[int, int]:
    """Parameters and MACs of three clique blocks of n layers on CIFAR-10, each stage in full.

    A block owns n kernels from X0 and n(n-1) between its layers, or half of these where there
    is one stage. Stage 1 computes the former and n(n-1)/2 of the latter, each other stage all
    n(n-1). Normalisation has a scale and a bias for each channel that a step reads.
    """
    c, side, pooled = 64, 32, 0
    parameters, macs = 9 * 3 * c, 9 * 3 * c * side**2
    for last in (False, False, True):
        forward = n * (n - 1) // 2
        first, later = n * c + forward * k, (stages - 1) * 2 * forward * k
        owned = n * c + (2 if stages > 1 else 1) * forward * k
        parameters += 9 * k * owned + 2 * (first + later)
        macs += 9 * k * (first + later) * side**2
        feature = c + n * k
        if compression:
            parameters += 2 * feature + feature * (feature // 2)
            macs += feature * (feature // 2) * side**2
            feature //= 2
        parameters += 2 * feature
        pooled += feature
        c = n * k
        if not last:
            parameters += 2 * c + c * c
            macs += c * c * side**2
            if attention:
                parameters += 2 * c * (c // 2) + c // 2 + c
                macs += attention_macs([c])
            side //= 2
    return parameters + 10 * pooled + 10, macs + 10 * pooled


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize(("k", "n"), [(1, 2), (7, 3), (36, 5), (48, 4), (80, 7)])
def test_other_clique_networks(
    k: int, n: int, stages: int, compression: bool, attention: bool
) -> None:
    cost = compiled(
        "cliquenet_k36_t12",
        "expect={}",
        f"blocks.*={{layers: {n}, filters: {k}, stages: {stages}}}",
        f"transition.attention={str(attention).lower()}",
        f"readout.compression={0.5 if compression else 'null'}",
    )
    expected = clique_by_formula(k, n, stages, attention, compression)
    assert (cost.parameters, cost.macs) == expected


def dense_by_formula(k: int, n: int, factor: int) -> tuple[int, int]:
    """Parameters and MACs of three dense blocks of n layers; factor 0 is without B and C.

    What the n layers of a block read is n·c + k·n(n-1)/2 channels in all.
    """
    c, side = (2 * k, 32) if factor else (16, 32)
    parameters, macs = 9 * 3 * c, 9 * 3 * c * side**2
    for last in (False, False, True):
        read = n * c + k * n * (n - 1) // 2
        wide = factor * k
        kernels = read * wide + 9 * n * wide * k if factor else 9 * read * k
        parameters += kernels + 2 * (read + n * wide)
        macs += kernels * side**2
        c += n * k
        if not last:
            kept = c // 2 if factor else c
            parameters += 2 * c + c * kept
            macs += c * kept * side**2
            c, side = kept, side // 2
    return parameters + 2 * c + 10 * c + 10, macs + 10 * c


@pytest.mark.parametrize("base", ["densenet_k12_t36", "densenet_k12_t96_bc"])
@pytest.mark.parametrize(("k", "n"), [(1, 1), (6, 5), (13, 7), (40, 12)])
def test_other_dense_networks(base: str, k: int, n: int) -> None:
    factor = 4 if base.endswith("_bc") else 0
    cost = compiled(
        base,
        "expect={}",
        f"stem.filters={2 * k if factor else 16}",
        f"blocks.*.layers={n}",
        f"block_defaults.filters={k}",
    )
    assert (cost.parameters, cost.macs) == dense_by_formula(k, n, factor)
