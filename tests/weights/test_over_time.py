"""Weights of readouts over time: their names, and networks of other numbers of stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.names import tensor_name
from cliquegraph.spec.load import loads
from cliquegraph.weights import read_weights, write_weights
from cliquegraph.weights.over_time import continues
from cliquegraph.weights.sample import sample_tensors
from tests.networks import EVERY_KEY, graph_of, network

SHARED, PER_STAGE = EVERY_KEY["over_time"], EVERY_KEY["over_time_per_stage"]


def with_stages(spec: NetworkSpec, stages: int) -> NetworkSpec:
    document = spec.to_data()
    document["blocks"][-1]["stages"] = stages
    return loads(json.dumps(document))


def names(spec: NetworkSpec, section: str) -> set[str]:
    tensors = map(tensor_name, graph_of(spec).tensors)
    return {name.rpartition(".")[0] for name in tensors if name.startswith(section)}


def test_names_have_a_stage_where_normalizations_do() -> None:
    assert names(SHARED, "readout") == {"readout1.norm"}
    assert names(PER_STAGE, "readout") == {
        "readout2.compress.conv",
        *(f"readout2.s{s}.{each}" for s in (1, 2, 3) for each in ("compress.norm", "norm")),
    }
    assert names(SHARED, "classifier") == names(PER_STAGE, "classifier") == {"classifier"}


def test_more_stages_take_the_same_weights_where_they_share_all(tmp_path: Path) -> None:
    file, tensors = tmp_path / "weights.safetensors", sample_tensors(graph_of(SHARED))
    write_weights(SHARED, tensors, file)
    for stages in (2, 3, 8):
        assert read_weights(with_stages(SHARED, stages), file).keys() == tensors.keys()


def test_more_stages_with_normalizations_of_their_own_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    write_weights(PER_STAGE, sample_tensors(graph_of(PER_STAGE)), file)
    with pytest.raises(WeightsError) as caught:
        read_weights(with_stages(PER_STAGE, 5), file)
    assert "blocks.1.stages: 3 in the file, 5 in the spec" in str(caught.value)
    assert "share their normalizations: norms: shared, in the block and in" in str(caught.value)


def test_what_differs_in_more_than_stages_does_not_continue() -> None:
    assert continues(SHARED, with_stages(SHARED, 5))
    block = SHARED.to_data()["blocks"][0]
    readout = {"blocks": "last", "stages": "all", "norms": "shared"}
    for other in (
        network({**block, "stages": 5, "update": "simultaneous"}, readout=readout),
        network({**block, "stages": 5, "filters": 4}, readout=readout),
        network({**block, "stages": 5}, readout={**readout, "pool": "max"}),
        network({**block, "stages": 5}, readout={"blocks": "last"}),
    ):
        assert not continues(SHARED, other)


@pytest.mark.parametrize(
    "spec", [*EVERY_KEY.values(), network({"layers": 2, "filters": 2}, stem="none")]
)
def test_a_spec_is_read_back_from_its_data(spec: NetworkSpec) -> None:
    assert loads(json.dumps(spec.to_data())) == spec
