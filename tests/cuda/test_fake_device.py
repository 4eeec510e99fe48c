"""Every level on fake CUDA tensors: types, memory formats and the copies that nobody wants."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.utils import cpp_extension

from cliquegraph.compiler import Compilation
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.plugins.backends import find_backend
from tests.cuda.contracts import CONTRACTS
from tests.networks import network

HERE = Path(__file__).parent
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")

pytestmark = pytest.mark.skipif(
    COMPILER is None, reason="no C++ compiler builds the fake device; on Debian: g++"
)

# Each helper of generated files, in few layers.
SPEC = network(
    {"layers": 2, "filters": 3, "bottleneck": True, "stages": 3, "norm_per_stage": False},
    {"layers": 2, "filters": 2, "unit": "post_activation"},
    stem={"filters": 4, "norm": True, "pool": {"kind": "max", "kernel": 3, "stride": 2}},
    input={"channels": 2, "height": 16, "width": 16},
    transition={"attention": True},
    readout={"compression": 0.5},
)
WAYS: dict[str, dict[str, Any]] = {
    **{f"-O{level}": {"level": level} for level in LEVELS},
    "folded": {"inference": True},
}
LITERAL = "-O0"
AVERAGED = "aten.div.Scalar"
"""The gradient of a global average is one element per map, repeated: it has no format."""

Report = dict[str, Any]


def source_of(way: str) -> str:
    return Compilation(SPEC, **WAYS[way]).source(find_backend("torch"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert COMPILER is not None
    built = tmp_path_factory.mktemp("fake") / "libfakedevice.so"
    paths = [f"-I{path}" for path in cpp_extension.include_paths()]
    for path in cpp_extension.library_paths():
        paths += [f"-L{path}", f"-Wl,-rpath,{path}"]
    subprocess.run(
        [
            *(COMPILER, "-w", "-shared", "-fPIC", "-std=c++20", str(HERE / "fake_device.cpp")),
            *("-o", str(built), *paths, "-ltorch", "-ltorch_cpu", "-lc10"),
        ],
        check=True,
    )
    return built


def run(library: Path, sources: dict[str, str]) -> list[Report]:
    """What every way of running each source gives."""
    image = SPEC.input
    given = [
        {
            "name": name,
            "source": source,
            "class": SPEC.python_class,
            "shape": [image.channels, image.height, image.width],
        }
        for name, source in sources.items()
    ]
    done = subprocess.run(
        [sys.executable, str(HERE / "fake_device.py"), str(library)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reports: list[Report] = json.loads(done.stdout)
    return reports


def key(row: Report) -> tuple[str, str, bool]:
    return row["how"], row["layout"], row["training"]


@pytest.fixture(scope="module")
def reports(library: Path) -> list[Report]:
    return run(library, {way: source_of(way) for way in WAYS})


@pytest.mark.parametrize("way", WAYS)
def test_every_type_and_format_runs_forward_and_backward(reports: list[Report], way: str) -> None:
    rows = [row for row in reports if row["name"] == way]
    assert len({key(row) for row in rows}) == len(rows) == 6 * 2 * 2
    assert not [row for row in rows if "error" in row]


def test_every_operator_has_a_contract(reports: list[Report]) -> None:
    # On a GPU PyTorch chooses others than on a CPU, cuDNN's batch normalization among them.
    called = {name for row in reports for name in row["called"]}
    assert {"cudnn_batch_norm.default", "addcmul.out"} <= called
    # The sum of the logits and the question for their device are the program's own.
    assert called - {"sum.default", "prim.device.default"} <= CONTRACTS.keys()


@pytest.mark.parametrize("way", WAYS)
def test_maps_stay_channels_last(reports: list[Report], way: str) -> None:
    rows = [row for row in reports if row["name"] == way and row["layout"] == "channels_last"]
    assert rows
    for row in rows:
        if row["how"] != "float64":  # cuDNN convolves float64 in NCHW, the literal model's too
            assert set(row["strayed"]) <= {AVERAGED}, row


@pytest.mark.parametrize("way", WAYS)
def test_maps_are_widened_no_more_than_in_the_literal_model(
    reports: list[Report], way: str
) -> None:
    literal = {key(row): row["widened"] for row in reports if row["name"] == LITERAL}
    for row in reports:
        if row["name"] == way:
            wide = sum(row["widened"].values())
            assert wide <= sum(literal[key(row)].values()), row


def test_a_gradient_in_float32_would_be_seen(library: Path) -> None:
    source = source_of("-O1")
    careless = source.replace("slope, out=out).add_(grad)", "slope) + grad")
    assert careless != source
    rows = run(library, {"careless": careless})
    found = {row["how"] for row in rows if "aten.addcmul.default" in row["widened"]}
    assert found == {"autocast bfloat16", "autocast float16", "bfloat16", "float16"}


def test_maps_out_of_their_format_would_be_seen(library: Path) -> None:
    source = source_of("-O0")
    careless = source.replace("x = torch.cat(", "x = 1 * torch.cat(", 1)
    careless = careless.replace("1 * torch.cat(sources, 1)", "torch.cat(sources, 1).contiguous()")
    assert careless != source
    rows = run(library, {"careless": careless})
    assert any(set(row["strayed"]) - {AVERAGED} for row in rows if row["how"] == "bfloat16")


def test_an_error_would_be_seen(library: Path) -> None:
    source = source_of("-O0").replace("torch.cat(sources, 1)", "torch.cat(sources, 1).cpu()", 1)
    assert all("error" in row for row in run(library, {"careless": source}))
