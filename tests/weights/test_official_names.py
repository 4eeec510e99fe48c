"""The authors' keys, and the spec that shapes under these keys imply; no framework is needed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import cliquegraph
from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import WeightsError
from cliquegraph.ir.names import param_name
from cliquegraph.ir.types import Field
from cliquegraph.weights.official import OfficialLayout, implied_document
from cliquegraph.weights.source import TensorInfo
from tests.networks import clique, graph_of, network
from tests.official import official_keys, official_spec

Infos = dict[str, TensorInfo]


def infos(spec: NetworkSpec) -> Infos:
    """What a checkpoint of a network holds, as the layout names it."""
    graph = graph_of(spec)
    layout = OfficialLayout(graph)
    return {layout.name(param): TensorInfo("float32", param.shape) for param in graph.params}


def test_the_names_are_the_authors() -> None:
    graph = graph_of(official_spec())
    layout = OfficialLayout(graph)
    named = {param_name(param): layout.name(param) for param in graph.params}
    assert named == official_keys(official_spec(), graph)
    for param in graph.params:
        assert layout.axes(param) == tuple(range(len(param.shape)))
        if param.field is Field.MEAN:
            counter = layout.name(param).replace("running_mean", "num_batches_tracked")
            assert layout.counter(param) == counter


@pytest.mark.parametrize(
    ("spec", "lacks"),
    [
        (clique(bottleneck=True, stages=3), "block1.x1.s3.norm"),
        (network({"kind": "dense", "layers": 2, "filters": 3}), "block1.x1.norm"),
    ],
    ids=["three stages", "dense"],
)
def test_another_form_has_no_names(spec: NetworkSpec, lacks: str) -> None:
    message = (
        f"small does not fit the authors' format: their models have no {lacks}; "
        "blocks are bottleneck cliques of two stages"
    )
    with pytest.raises(WeightsError, match=f"^{re.escape(message)}$"):
        OfficialLayout(graph_of(spec))


def declared(**changes: Any) -> NetworkSpec:
    document = official_spec().model_dump(exclude={"expect", "class_name", "training"})
    return NetworkSpec.model_validate({**document, **changes})


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("compression", [0.5, 0.25, None])
def test_shapes_imply_the_spec(attention: bool, compression: float | None) -> None:
    spec = declared(transition={"attention": attention}, readout={"compression": compression})
    implied = implied_document(infos(spec), "file")
    assert implied["classifier"] == {"classes": spec.classifier.classes}
    text = json.dumps({"cliquegraph": 1, "name": "implied", **implied})
    found = cliquegraph.loads(text, "implied.json")
    # What the lowering makes of it says more than how it was written.
    assert graph_of(found).digest() == graph_of(spec).digest()


@pytest.mark.parametrize("kernel", [3, 5])
def test_shapes_imply_kernels_and_filters(kernel: int) -> None:
    keys = {"kind": "clique", "layers": 3, "kernel": kernel, "bottleneck": True}
    blocks = [{**keys, "filters": 4 + b} for b in (0, 1)]
    spec = declared(blocks=blocks, stem={**declared().stem.model_dump(), "kernel": 9})
    implied = implied_document(infos(spec), "file")
    assert implied["stem"]["kernel"] == 9
    stated = {} if kernel == 3 else {"kernel": kernel}
    assert implied["blocks"] == [{"layers": 3, "filters": 4 + b, **stated} for b in (0, 1)]
    assert implied["block_defaults"] == {"kind": "clique", "bottleneck": True}


@pytest.mark.parametrize("share", [0.5, 0.3, 0.26, 1.0])
def test_the_shortest_share_that_fits_is_implied(share: float) -> None:
    implied = implied_document(infos(declared(readout={"compression": share})), "file")
    readout = declared(readout=implied["readout"])
    assert infos(readout) == infos(declared(readout={"compression": share}))
    assert len(str(implied["readout"]["compression"])) <= len(str(share))


def test_a_share_of_one_digit_is_found_before_a_closer_one_of_two() -> None:
    found = infos(declared(readout={"compression": 0.3}))
    for name in found:
        if re.fullmatch(r"list_compress\.\d\.conv\.weight", name):
            found[name] = TensorInfo("float32", (2, 7, 1, 1))
    assert implied_document(found, "file")["readout"] == {"compression": 0.3}  # and 0.29, too


def test_blocks_that_do_not_count_from_0_are_refused() -> None:
    found = {
        name.replace("list_block.1.", "list_block.2."): info
        for name, info in infos(declared()).items()
    }
    with pytest.raises(
        WeightsError, match=r"its keys list_block\.N\. are not numbered consecutively from 0"
    ):
        implied_document(found, "file")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fir_trans.weight": None}, "fir_trans.weight"),
        ({"fir_trans.weight": (6, 3, 7, 5)}, "fir_trans.weight is not a square kernel of odd size"),
        ({"fir_trans.weight": (6, 3, 6, 6)}, "fir_trans.weight is not a square kernel of odd size"),
        ({"fir_trans.weight": (6, 3, 7)}, "fir_trans.weight"),
        ({"fc.weight": (0, 4)}, "fc.weight"),
        ({"fc.weight": None}, "fc.weight"),
        ({"list_block.0.conv_param_bottle.0.weight": None}, "list_block.0.conv_param_bottle"),
    ],
    ids=str,
)
def test_shapes_that_imply_nothing_are_refused(change: dict[str, Any], said: str) -> None:
    found = infos(declared())
    for name, shape in change.items():
        if shape is None:
            del found[name]
        else:
            found[name] = TensorInfo("float32", shape)
    with pytest.raises(WeightsError, match=re.escape(said)):
        implied_document(found, "file")
