"""Figures of tensors, heat maps, and the commands around them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from cliquegraph import NetworkSpec
from cliquegraph.diagnostics.errors import UsageError, WeightsError
from cliquegraph.draw.heat import draw_heat
from cliquegraph.ir.names import tensor_name
from cliquegraph.weights import open_weights, write_weights
from cliquegraph.weights.describe import describe
from cliquegraph.weights.heat import network_heat
from tests.networks import clique, graph_of, network, shipped
from tests.weights.files import canonical_file, official_checkpoint, sampled

ROOT = Path(__file__).parents[2]


def run(*words: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cliquegraph", "weights", *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'backends'}"},
        capture_output=True,
        text=True,
    )


def done(*words: str | Path, folder: Path = ROOT) -> str:
    found = run(*words, folder=folder)
    assert found.returncode == 0, found.stderr
    assert not found.stderr
    return found.stdout


# ---- figures -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_figures_are_numpys(tmp_path: Path, dtype: str) -> None:
    spec = clique()
    file = canonical_file(tmp_path / "c", spec, dtype)
    with open_weights(spec, file) as weights:
        rows = {row.name: row for row in describe(weights)}
    for name, array in sampled(spec, dtype).items():
        wide, row = array.astype(np.float64), rows[name]
        assert (row.dtype, row.shape, row.nan) == (dtype, array.shape, 0)
        assert [row.mean, row.std, row.min, row.max] == pytest.approx(
            [wide.mean(), wide.std(), wide.min(), wide.max()]
        )


def test_nan_is_counted_and_left_out(tmp_path: Path) -> None:
    spec = clique()
    tensors = sampled(spec)
    tensors["classifier.bias"][:] = np.nan
    tensors["stem.conv.weight"].flat[:3] = np.nan
    tensors["classifier.weight"].flat[0] = np.inf
    write_weights(spec, tensors, tmp_path / "c")
    with open_weights(spec, tmp_path / "c") as weights:
        rows = {row.name: row for row in describe(weights)}
    assert rows["stem.conv.weight"].nan == 3
    assert rows["stem.conv.weight"].max == tensors["stem.conv.weight"].flat[3:].max()
    assert rows["classifier.bias"].nan == tensors["classifier.bias"].size
    assert np.isnan(rows["classifier.bias"].mean)
    assert rows["classifier.weight"].max == np.inf


def written(folder: Path, spec: NetworkSpec, name: str) -> tuple[Path, Path]:
    """A spec and its weights as files."""
    path = folder / f"{name}.yaml"
    path.write_text(spec.model_dump_json(exclude={"expect", "training"}))
    return path, canonical_file(folder / f"{name}.safetensors", spec)


def test_show_prints_a_row_for_each_tensor(tmp_path: Path) -> None:
    spec, file = written(tmp_path, clique(), "small")
    rows = json.loads(done("show", spec, file, "--json"))
    assert [row["name"] for row in rows] == [tensor_name(t) for t in graph_of(clique()).tensors]
    assert rows[0].keys() == {"name", "dtype", "shape", "mean", "std", "min", "max", "nan"}
    printed = done("show", spec, file)
    assert "small: small.safetensors (canonical)" in printed
    assert all(row["name"] in printed for row in rows)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_show_reads_every_type_in_a_process_of_its_own(tmp_path: Path, dtype: str) -> None:
    """NumPy knows bfloat16 only where somebody has imported it."""
    spec, file = written(tmp_path, clique(), "small")
    write_weights(clique(), sampled(clique(), dtype), file)
    words = [sys.executable, "-m", "cliquegraph", "weights", "show", str(spec), str(file), "--json"]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert {row["dtype"] for row in json.loads(ran.stdout)} == {dtype}


def test_a_name_does_not_speak_to_the_terminal(tmp_path: Path) -> None:
    spec, file = written(tmp_path, clique(), "small")
    hostile = file.rename(tmp_path / "\x1b[2J\u202etfas.safetensors")
    printed = done("show", spec, hostile)
    assert "\x1b" not in printed and "\u202e" not in printed
    assert r"small: \x1b[2J\u202etfas.safetensors (canonical)" in printed


def test_show_writes_no_number_that_json_has_not(tmp_path: Path) -> None:
    spec, file = written(tmp_path, clique(), "small")
    tensors = sampled(clique())
    tensors["classifier.bias"][:] = np.nan
    write_weights(clique(), tensors, file)
    rows = {row["name"]: row for row in json.loads(done("show", spec, file, "--json"))}
    assert rows["classifier.bias"]["mean"] is None


# ---- heat maps ---------------------------------------------------------------------------


def test_a_cliques_map_is_the_mean_of_each_kernel(tmp_path: Path) -> None:
    spec = network({"layers": 3, "filters": 4, "bottleneck": True}, {"layers": 2, "filters": 2})
    tensors = sampled(spec)
    write_weights(spec, tensors, tmp_path / "c")
    heat = network_heat(spec, tmp_path / "c")
    assert [block.values.shape for block in heat.blocks] == [(4, 3), (3, 2)]
    for block in heat.blocks:
        for (i, column), value in np.ndenumerate(block.values):
            kernel = tensors.get(f"block{block.block}.w{i}_{column + 1}.weight")
            assert np.isnan(value) == (kernel is None) == (i == column + 1)
            if kernel is not None:
                assert value == pytest.approx(np.abs(kernel).mean())


@pytest.mark.parametrize("bottleneck", [False, 4])
def test_a_dense_blocks_map_cuts_the_kernel_by_source(tmp_path: Path, bottleneck: object) -> None:
    spec = network({"kind": "dense", "layers": 3, "filters": 2, "bottleneck": bottleneck})
    tensors = sampled(spec)
    write_weights(spec, tensors, tmp_path / "c")
    (block,) = network_heat(spec, tmp_path / "c").blocks
    entry = tensors["block1.x1.conv.weight"].shape[1]
    ends = [0, entry, entry + 2, entry + 4]
    for j in (1, 2, 3):
        kernel = np.abs(tensors[f"block1.x{j}.conv.weight"])
        for i in range(4):
            value = block.values[i, j - 1]
            if i < j:
                assert value == pytest.approx(kernel[:, ends[i] : ends[i + 1]].mean())
            else:
                assert np.isnan(value)


def test_pictures_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    spec = shipped("quickstart")
    heat = network_heat(spec, canonical_file(tmp_path / "c", spec))
    for suffix in ("svg", "html"):
        assert draw_heat([heat], suffix) == draw_heat([heat], suffix)
    assert draw_heat([heat], "png").startswith(b"\x89PNG")


def test_a_picture_has_a_panel_for_each_block(tmp_path: Path) -> None:
    spec = network({"layers": 3, "filters": 3}, {"layers": 2, "filters": 3})
    heat = network_heat(spec, canonical_file(tmp_path / "c", spec))
    root = ElementTree.fromstring(draw_heat([heat, heat], "svg"))  # noqa: S314  # our own
    groups = [each.get("id", "") for each in root.iter("{http://www.w3.org/2000/svg}g")]
    panels = [each for each in groups if each.startswith("axes_")]
    assert len(panels) == 2 * 4  # each has its scale beside it


def test_the_page_holds_the_numbers_and_escapes_names(tmp_path: Path) -> None:
    spec = clique()
    heat = network_heat(spec, canonical_file(tmp_path / "c", spec))
    hostile = type(heat)("<script>alert(1)</script>", heat.blocks)
    page = draw_heat([hostile], "html").decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http-equiv" not in page
    assert f"{heat.blocks[0].values[0, 0]:.4g}" in page


def test_what_can_not_be_drawn_is_refused(tmp_path: Path) -> None:
    spec = clique()
    tensors = sampled(spec)
    heat = network_heat(spec, canonical_file(tmp_path / "c", spec))
    with pytest.raises(UsageError, match=r"a heat map is \.svg, \.png, \.html, not 'gif'"):
        draw_heat([heat], "gif")
    with pytest.raises(UsageError, match="has blocks 1 to 1, not 2"):
        network_heat(spec, tmp_path / "c", 2)
    with pytest.raises(UsageError, match="has blocks 1 to 1, not 0"):
        network_heat(spec, tmp_path / "c", 0)
    tensors["block1.w1_2.weight"][:] = np.nan
    write_weights(spec, tensors, tmp_path / "c")
    with pytest.raises(WeightsError, match=r"block1\.w1_2\.weight holds NaN"):
        network_heat(spec, tmp_path / "c")


def test_heatmap_draws_two_networks_side_by_side(tmp_path: Path) -> None:
    dense = network({"kind": "dense", "layers": 3, "filters": 2})
    pairs = [*written(tmp_path, clique(), "a"), *written(tmp_path, dense, "b")]
    for suffix in ("svg", "png", "html"):
        file = tmp_path / f"figure.{suffix}"
        assert done("heatmap", *pairs, "-o", file) == f"wrote {file}\n"
        assert file.stat().st_size > 1000
    found = run("heatmap", *pairs[:3], "-o", tmp_path / "x.svg")
    assert (found.returncode, found.stderr) == (
        2,
        "error[usage]: name a weights file after each spec\n",
    )


# ---- commands ----------------------------------------------------------------------------


def test_convert_says_what_it_did(tmp_path: Path) -> None:
    spec, file = written(tmp_path, clique(), "small")
    target = tmp_path / "t.safetensors"
    said = done("convert", spec, file, target, "--from", "canonical", "--to", "torch", "-O", "2")
    assert said.startswith(f"wrote {target}: torch -O2, ")
    assert said.endswith("from canonical\n")
    back = done("convert", spec, target, tmp_path / "b", "--to", "canonical")
    assert back.endswith("from torch -O2\n")
    assert (tmp_path / "b").read_bytes() == file.read_bytes()


def test_convert_warns_of_nan(tmp_path: Path) -> None:
    spec, file = written(tmp_path, clique(), "small")
    tensors = sampled(clique())
    tensors["classifier.bias"][0] = np.nan
    write_weights(clique(), tensors, file)
    found = run("convert", spec, file, tmp_path / "t", "--to", "flax")
    assert found.returncode == 0
    assert found.stderr == "warning: 1 tensors hold NaN or infinity: classifier.bias\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "official"), "can only be read"),
        (("--to", "onnx"), "there is no format 'onnx'"),
        (("--to", "torch", "-O", "9"), "there is no level -O9"),
        (("--to", "torch", "-O", "1", "--inference"), "remove -O"),
        (("--to", "torch", "--from", "flax"), "in format canonical, not flax"),
    ],
)
def test_what_convert_can_not_do(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    spec, file = written(tmp_path, clique(), "small")
    found = run("convert", spec, file, tmp_path / "t", *words)
    assert found.returncode == 2
    assert found.stderr.startswith("error[")
    assert said in found.stderr
    assert not (tmp_path / "t").exists()


def test_infer_and_check_on_the_command_line(tmp_path: Path) -> None:
    file = official_checkpoint(tmp_path / "tiny.pth.tar")
    spec = tmp_path / "fine_tuned.yaml"
    assert done("infer", file, "-o", spec) == f"wrote {spec}\n"
    assert done("infer", file, "-o", spec) == f"unchanged {spec}\n"
    assert "name: fine_tuned" in spec.read_text()
    assert done("infer", file, "--name", "mine").count("name: mine\n") == 1
    assert done("check", spec, file, "--against", "official") == f"{spec} matches {file}\n"
    assert json.loads(done("check", spec, file, "--json")) == {"equal": True, "differences": []}
    found = run("check", spec, file, "--json", "--set", "blocks.0.layers=4", "--set", "expect={}")
    assert found.returncode == 1
    assert json.loads(found.stdout) == {
        "equal": False,
        "differences": [{"key": "blocks.0.layers", "checkpoint": 3, "spec": 4}],
    }
    found = run("check", spec, file, "--against", "torch")
    assert (found.returncode, found.stderr[:6]) == (2, "error[")
