"""Shapes, parameter shapes and MACs of every op, and the sizes that they refuse."""

from __future__ import annotations

import pytest

from cliquegraph.ir import ops
from cliquegraph.ir.ops import Op
from cliquegraph.ir.shapes import ShapeError, compressed, squeezed
from cliquegraph.ir.types import (
    Field,
    Init,
    MapType,
    MaskType,
    MomentsType,
    StagesType,
    TensorType,
    VectorType,
    WeightsType,
)

MAPS = MapType(6, 8, 10)
VECTOR = VectorType(6)
MOMENTS = MomentsType(6)

# op, inputs, output, parameter shapes, MACs; worked out by hand
CASES: list[tuple[Op, list[TensorType], TensorType, dict[Field, tuple[int, ...]], int]] = [
    (ops.Input(3, 8, 10), [], MapType(3, 8, 10), {}, 0),
    (ops.Concat(), [MAPS, MapType(4, 8, 10)], MapType(10, 8, 10), {}, 0),
    (ops.Concat(), [MAPS], MAPS, {}, 0),
    (ops.Concat(), [VECTOR, VectorType(3)], VectorType(9), {}, 0),
    (ops.Stack(), [VECTOR, VECTOR, VECTOR], StagesType(3, 6), {}, 0),
    (
        ops.BatchNorm(),
        [MAPS],
        MAPS,
        {Field.SCALE: (6,), Field.BIAS: (6,), Field.MEAN: (6,), Field.VAR: (6,)},
        0,
    ),
    (ops.Moments(), [MAPS], MOMENTS, {Field.MEAN: (6,), Field.VAR: (6,)}, 0),
    (
        ops.Normalize(),
        [MAPS, MomentsType(4), MomentsType(2)],
        MAPS,
        {Field.SCALE: (6,), Field.BIAS: (6,)},
        0,
    ),
    (ops.Affine(), [MAPS], MAPS, {Field.SCALE: (6,), Field.BIAS: (6,)}, 0),
    (ops.Relu(), [MAPS], MAPS, {}, 0),
    (ops.Relu(), [VECTOR], VECTOR, {}, 0),
    (ops.Sigmoid(), [VECTOR], VECTOR, {}, 0),
    (ops.Dropout(0.2), [MAPS], MAPS, {}, 0),
    (ops.Keep(0.2, per_image=False), [MAPS], MaskType(per_image=False), {}, 0),
    (ops.Keep(0.2, per_image=True), [MAPS], MaskType(per_image=True), {}, 0),
    (ops.DropPath(0.2, "training"), [MAPS, MaskType(per_image=True)], MAPS, {}, 0),
    (ops.DrawColumn(0.5, 3), [MAPS], WeightsType(3), {}, 0),
    (ops.JoinWeights(0.2, 2), [MAPS], WeightsType(2), {}, 0),
    (ops.JoinWeights(0.2, 2, (2, 3)), [MAPS, WeightsType(3)], WeightsType(2), {}, 0),
    (ops.WeightedMean(), [MAPS, MAPS, WeightsType(2)], MAPS, {}, 0),
    (
        ops.BatchNorm(),
        [MAPS, MaskType(per_image=False)],
        MAPS,
        {Field.SCALE: (6,), Field.BIAS: (6,), Field.MEAN: (6,), Field.VAR: (6,)},
        0,
    ),
    (ops.Conv(5, 3), [MAPS], MapType(5, 8, 10), {Field.WEIGHT: (5, 6, 3, 3)}, 5 * 80 * 6 * 9),
    (ops.Conv(5, 1), [MAPS], MapType(5, 8, 10), {Field.WEIGHT: (5, 6, 1, 1)}, 5 * 80 * 6),
    (
        ops.Conv(5, 1, bias=True),
        [MAPS],
        MapType(5, 8, 10),
        {Field.WEIGHT: (5, 6, 1, 1), Field.BIAS: (5,)},
        5 * 80 * 6,
    ),
    (
        ops.Conv(6, 3, depthwise=True, bias=True),
        [MAPS],
        MapType(6, 8, 10),
        {Field.WEIGHT: (6, 1, 3, 3), Field.BIAS: (6,)},
        6 * 80 * 9,
    ),
    (ops.GroupNorm(3), [MAPS], MAPS, {Field.SCALE: (6,), Field.BIAS: (6,)}, 0),
    (ops.Bias(), [MAPS], MAPS, {Field.BIAS: (6,)}, 0),
    (ops.Gate(), [MAPS], MAPS, {Field.WEIGHT: (1,)}, 0),
    (ops.LocalResponse(3, 0.1, 0.75), [MAPS], MAPS, {}, 0),
    (ops.GlobalMaxPool(), [MAPS], VECTOR, {}, 0),
    (ops.Upsample(2), [MAPS], MapType(6, 16, 20), {}, 0),
    (ops.Zeros(4, 3, 2, 1), [MAPS], MapType(4, 4, 5), {}, 0),
    (
        # the ImageNet stem: padded by 3, 224 becomes 112
        ops.Conv(64, 7, 2),
        [MapType(3, 224, 224)],
        MapType(64, 112, 112),
        {Field.WEIGHT: (64, 3, 7, 7)},
        118_013_952,
    ),
    (ops.Conv(2, 3, 2), [MapType(1, 7, 8)], MapType(2, 4, 4), {Field.WEIGHT: (2, 1, 3, 3)}, 288),
    (
        ops.Linear(4),
        [VECTOR],
        VectorType(4),
        {Field.WEIGHT: (4, 6), Field.BIAS: (4,)},
        24,
    ),
    (ops.MaxPool(3, 2, 1), [MapType(64, 112, 112)], MapType(64, 56, 56), {}, 0),
    (ops.MaxPool(2, 2), [MapType(2, 5, 6)], MapType(2, 2, 3), {}, 0),
    (ops.AvgPool(2, 2), [MapType(2, 5, 6)], MapType(2, 2, 3), {}, 0),
    (ops.AvgPool(3, 1), [MapType(2, 5, 6)], MapType(2, 3, 4), {}, 0),
    (ops.GlobalAvgPool(), [MAPS], VECTOR, {}, 0),
    (ops.GlobalMean(), [MAPS], MapType(6, 1, 1), {}, 0),
    (ops.ScaleChannels(), [MAPS, VECTOR], MAPS, {}, 0),
    (ops.Add(), [MAPS, MAPS, MAPS], MAPS, {}, 0),
    (ops.Mean(3), [MAPS, MAPS], MAPS, {}, 0),
    (ops.PadChannels(9), [MAPS], MapType(9, 8, 10), {}, 0),
]


@pytest.mark.parametrize(("op", "inputs", "output", "params", "macs"), CASES, ids=str)
def test_types_parameters_and_macs(
    op: Op,
    inputs: list[TensorType],
    output: TensorType,
    params: dict[Field, tuple[int, ...]],
    macs: int,
) -> None:
    types = tuple(inputs)
    assert op.infer(types) == (output,)
    assert op.param_shapes(types) == params
    assert op.macs(types) == macs
    # A convolution has a bias only where it says so.
    assert [field for field in op.fields if field in params] == list(params)


def test_the_cases_hold_every_op_and_all_its_fields() -> None:
    seen = {(type(op), field) for op, _, _, params, _ in CASES for field in params}
    assert seen == {(op, field) for op in ops.OPS for field in op.fields}
    assert {type(op) for op, *_ in CASES} == set(ops.OPS)


NO_COLUMN = "operands with columns read the column that is drawn, others do not"


@pytest.mark.parametrize(
    ("op", "inputs", "message"),
    [
        (
            ops.Stack(),
            [VECTOR, VectorType(3)],
            "vectors of one length can be stacked, nothing else",
        ),
        (ops.Stack(), [MAPS, MAPS], "vectors of one length can be stacked, nothing else"),
        (ops.Concat(), [StagesType(3, 6)], "maps of different sizes can't be concatenated"),
        (ops.Concat(), [VECTOR, MAPS], "a vector can't be concatenated with maps"),
        (ops.Concat(), [MAPS, VECTOR], "maps of different sizes can't be concatenated"),
        (ops.Concat(), [MAPS, MapType(6, 8, 9)], "maps of different sizes can't be concatenated"),
        (ops.Concat(), [MAPS, MapType(6, 9, 10)], "maps of different sizes can't be concatenated"),
        (ops.BatchNorm(), [VECTOR], "maps are needed here, not a vector"),
        (
            ops.BatchNorm(),
            [MAPS, MaskType(per_image=True)],
            "running statistics are moved by whole batches",
        ),
        (ops.Concat(), [MaskType(per_image=True)], "maps of different sizes can't be concatenated"),
        (ops.Keep(0.2, per_image=True), [VECTOR], "maps are needed here, not a vector"),
        (ops.DropPath(0.2, "training"), [MAPS, MAPS], "a branch is dropped by a mask"),
        (ops.Concat(), [WeightsType(2)], "maps of different sizes can't be concatenated"),
        (ops.DrawColumn(0.5, 3), [VECTOR], "maps are needed here, not a vector"),
        (ops.JoinWeights(0.2, 2, (3,)), [MAPS, WeightsType(3)], "1 columns of 2 operands"),
        (ops.JoinWeights(0.2, 2, (2, 3)), [MAPS, WeightsType(2)], "there is no column 3 of 2"),
        (ops.JoinWeights(0.2, 2, (2, 3)), [MAPS], NO_COLUMN),
        (ops.JoinWeights(0.2, 2), [MAPS, WeightsType(3)], NO_COLUMN),
        (ops.WeightedMean(), [MAPS, WeightsType(2)], "1 maps need as many weights"),
        (ops.WeightedMean(), [WeightsType(0)], "0 maps need as many weights"),
        (
            ops.WeightedMean(),
            [MAPS, MapType(6, 4, 4), WeightsType(2)],
            "maps of 6x8x10 and of 6x4x4 can't be averaged",
        ),
        (ops.Moments(), [VECTOR], "maps are needed here, not a vector"),
        (ops.Affine(), [VECTOR], "maps are needed here, not a vector"),
        (ops.Normalize(), [MAPS, VECTOR], "maps are normalized by moments"),
        (ops.Normalize(), [MAPS], "6 maps can't be normalized by 0 moments"),
        (
            ops.Normalize(),
            [MAPS, MomentsType(4), MOMENTS],
            "6 maps can't be normalized by 10 moments",
        ),
        (ops.Conv(5, 3), [VECTOR], "maps are needed here, not a vector"),
        (ops.Conv(0, 1), [MAPS], "a convolution is left with no channels"),
        (ops.Linear(4), [MAPS], "a linear layer takes a vector"),
        (ops.GroupNorm(4), [MAPS], "6 channels can't be normalized in 4 groups"),
        (
            ops.Conv(4, 3, depthwise=True),
            [MAPS],
            "a depthwise convolution keeps its 6 channels, and can't write 4",
        ),
        (ops.MaxPool(2, 2, 2), [MAPS], "a max pool of 2×2 can't be padded by 2"),
        (ops.Linear(0), [VECTOR], "a linear layer is left with no outputs"),
        (ops.MaxPool(2, 2), [MapType(2, 1, 8)], "a 1×8 map is smaller than a window of 2×2"),
        (ops.AvgPool(3, 1), [MapType(2, 8, 2)], "a 8×2 map is smaller than a window of 3×3"),
        (ops.GlobalAvgPool(), [VECTOR], "maps are needed here, not a vector"),
        (ops.GlobalMean(), [VECTOR], "maps are needed here, not a vector"),
        (ops.ScaleChannels(), [VECTOR, VECTOR], "maps are needed here, not a vector"),
        (ops.ScaleChannels(), [MAPS, VectorType(5)], "6 maps can't be scaled by a vector of 5"),
        (ops.ScaleChannels(), [MAPS, MAPS], "6 maps can't be scaled by a vector of 6x8x10"),
        (ops.Add(), [VECTOR, VECTOR], "maps are needed here, not a vector"),
        (
            ops.Add(),
            [MAPS, MAPS, MapType(6, 8, 9)],
            "maps of 6x8x10 and of 6x8x9 can't be added",
        ),
        (ops.PadChannels(5), [MAPS], "6 maps can't be padded to 5"),
    ],
    ids=str,
)
def test_sizes_that_can_not_be_had(op: Op, inputs: list[TensorType], message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        op.infer(tuple(inputs))
    assert str(caught.value) == message


def test_a_padded_window_may_be_larger_than_the_map() -> None:
    # 3×3 max pool over one pixel: padding makes it three.
    assert ops.MaxPool(3, 2, 1).infer((MapType(2, 1, 1),)) == (MapType(2, 1, 1),)
    assert ops.Conv(2, 5).infer((MapType(2, 1, 1),)) == (MapType(2, 1, 1),)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_a_convolution_of_stride_1_keeps_the_size_of_maps(kernel: int) -> None:
    assert ops.Conv(6, kernel).infer((MAPS,)) == (MAPS,)


def test_initialization_is_the_papers() -> None:
    assert ops.Conv.fields == {Field.WEIGHT: Init.HE, Field.BIAS: Init.ZEROS}
    assert not ops.Conv(1, 1).bias
    assert ops.Linear.fields == {Field.WEIGHT: Init.XAVIER, Field.BIAS: Init.ZEROS}
    assert ops.BatchNorm.fields == {
        Field.SCALE: Init.ONES,
        Field.BIAS: Init.ZEROS,
        Field.MEAN: Init.ZEROS,
        Field.VAR: Init.ONES,
    }
    assert (ops.BatchNorm().eps, ops.BatchNorm().momentum) == (1e-5, 0.1)


def test_a_shared_normalization_starts_and_computes_as_one_of_its_own() -> None:
    assert ops.Normalize.fields | ops.Moments.fields == ops.BatchNorm.fields
    assert ops.Affine.fields == ops.Normalize.fields
    assert ops.Normalize().eps == ops.BatchNorm().eps
    assert ops.Moments().momentum == ops.BatchNorm().momentum


def test_a_factor_counts_as_the_decimal_that_was_written() -> None:
    # In binary 0.29 × 100 is just below 29.
    assert int(100 * 0.29) == 28
    assert compressed(100, 0.29) == 29
    assert compressed(55, 0.5) == 27
    assert compressed(1, 0.5) == 0
    assert squeezed(55) == 27


def test_mnemonics_are_unique() -> None:
    assert len({op.mnemonic for op in ops.OPS}) == len(ops.OPS)


def test_every_op_class_is_in_the_table() -> None:
    direct = Op.__subclasses__()
    assert {*direct, *(each for op in direct for each in op.__subclasses__())} == set(ops.OPS)
