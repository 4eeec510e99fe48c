"""Files for runtimes: what they compute, and what they say of labels and normalization."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cliquegraph
from cliquegraph.cli.tables.scores import guesses
from cliquegraph.data import margin_of
from cliquegraph.deployment import export as deployment
from cliquegraph.deployment.export import export
from cliquegraph.diagnostics.errors import BackendError, UsageError, VerificationError
from cliquegraph.ir.storage import Array
from cliquegraph.plugins import exporters
from cliquegraph.plugins.engines import Classify, find_engine
from cliquegraph.training.seen import preprocessing_of
from cliquegraph.weights import read_weights
from tests.command import Run
from tests.networks import network
from tests.trainings import ROOT
from tests.weights.files import canonical_file

FORMATS = ("onnx", "torch-export", "stablehlo")
RUN = {
    "recipe": {"normalisation": "standard", "augmentation": "resized_crop_flip"},
    "data": {"reference": "digits"},
    "statistics": {"mean": [0.25], "std": [0.5]},
    "seed": 0,
}


def needs(format: str) -> None:
    if format == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxscript")


def spec_of(classes: int = 6) -> cliquegraph.NetworkSpec:
    return network(
        {"layers": 2, "filters": 3},
        input={"channels": 1, "height": 8, "width": 8},
        classifier={"classes": classes},
    )


def in_a_run(folder: Path, spec: cliquegraph.NetworkSpec) -> Path:
    names = [f"bird {label}" for label in range(spec.classifier.classes)]
    (folder / "run.json").write_text(json.dumps({**RUN, "classes": names}))
    return canonical_file(folder / "best.safetensors", spec)


def metadata_in(path: Path, format: str) -> Any:
    if format == "onnx":
        import onnx

        (entry,) = (e for e in onnx.load(path).metadata_props if e.key == "cliquegraph")
        return json.loads(entry.value)
    if format == "torch-export":
        import torch

        extra = {"cliquegraph": ""}
        torch.export.load(path, extra_files=extra)
        return json.loads(extra["cliquegraph"])
    return json.loads(path.with_name(f"{path.name}.json").read_text())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*pt2.*:UserWarning")
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_the_network_with_its_labels(tmp_path: Path, format: str) -> None:
    needs(format)
    spec = spec_of()
    done = export(spec, in_a_run(tmp_path, spec), format, tmp_path / "net.pt2")
    assert done.error < 1e-5
    found = metadata_in(done.files[0], format)
    assert found == done.metadata
    assert found["classes"][5] == "bird 5"
    assert (found["mean"], found["std"], found["outputs"]) == ([0.25], [0.5], ["batch", "class"])
    assert found["margin"] > 1
    assert found["layout"] == ("NHWC" if format == "stablehlo" else "NCHW")


@pytest.mark.parametrize("format", FORMATS)
def test_logits_of_every_stage_are_exported(tmp_path: Path, format: str) -> None:
    needs(format)
    readout = {"blocks": "last", "stages": "all"}
    spec = network({"layers": 2, "filters": 3}, readout=readout)
    weights = canonical_file(tmp_path / "w", spec)
    done = export(spec, weights, format, tmp_path / "net.pt2", recipe="svhn")
    assert done.metadata["outputs"] == ["stage", "batch", "class"]
    assert set(done.metadata["mean"]) == {0.0}


class Broken:
    """An exporter of files that compute something else."""

    modules: tuple[str, ...] = ()
    layout, has_metadata = "NCHW", True

    def export(self, *arguments: object) -> bytes:
        return b"broken"

    def classifier(self, path: Path) -> Classify:
        assert path.read_bytes() == b"broken"
        return lambda images: np.full((len(images), 6), np.nan)


def test_a_file_that_differs_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of()
    monkeypatch.setattr(deployment, "find_exporter", lambda name: Broken())
    with pytest.raises(VerificationError, match="differs from the interpreter by nan"):
        export(spec, canonical_file(tmp_path / "w", spec), "onnx", tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_a_program_of_torch_export_is_named_pt2(tmp_path: Path) -> None:
    weights = canonical_file(tmp_path / "w", spec_of())
    with pytest.raises(UsageError, match=r"net: names .* end with \.pt2, such as small\.pt2"):
        export(spec_of(), weights, "torch-export", tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no format 'tflite'.*onnx, stablehlo, torch-export"):
        exporters.find_exporter("tflite")
    for module in ("cliquegraph_torch.exporters", "cliquegraph_flax.exporters"):
        code = f"import sys, {module}; print({{'torch', 'jax'}} & set(sys.modules))"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert ran.stdout == "set()\n", ran.stderr  # so that all that is missing is named at once
    exporter = exporters.find_exporter("torch-export")
    monkeypatch.setattr(type(exporter), "modules", ("torch", "no_such_module"))
    with pytest.raises(BackendError, match="needs no_such_module: pip install no_such_module"):
        exporters.find_exporter("torch-export")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_command_reports_the_comparison(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec_of().to_data()))
    weights, target = str(canonical_file(tmp_path / "w", spec_of())), str(tmp_path / "net.pt2")
    shared = ("export", str(file), "--weights", weights, "--to", "torch-export", "-o", target)
    ran = run(*shared)
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"wrote {target}: logits within ")
    assert "the metadata lacks the mean and std" in ran.err
    document = json.loads(run(*shared, "--recipe", "svhn", "--json").out)
    assert document["files"] == [target]
    assert document["metadata"]["std"] == [1.0]


def test_the_example_serves_what_predict_prints(tmp_path: Path) -> None:
    needs("onnx")
    pytest.importorskip("onnxruntime")
    spec = spec_of()
    weights = in_a_run(tmp_path, spec)
    export(spec, weights, "onnx", tmp_path / "net.onnx")
    picture = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (11, 14), np.uint8)
    Image.fromarray(pixels).save(picture)
    seen = preprocessing_of(spec, weights)
    tensors: Mapping[str, Array] = read_weights(spec, weights)
    classify = find_engine("torch").classifier(cliquegraph.Compilation(spec), tensors, "float32")
    expected = guesses(classify(seen.image(picture))[0], seen.classes)
    assert margin_of(seen.treatment) > 1
    command = [sys.executable, str(ROOT / "examples" / "serve.py"), str(tmp_path / "net.onnx")]
    command += ["--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            with urllib.request.urlopen(address, picture.read_bytes()) as answer:  # noqa: S310
                found = json.loads(answer.read())
            with pytest.raises(urllib.error.HTTPError, match="400") as refused:
                urllib.request.urlopen(address, b"no image")  # noqa: S310
            refused.value.close()
        finally:
            server.kill()
    assert [each["class"] for each in found] == [each["class"] for each in expected]
    assert found[0]["probability"] == pytest.approx(expected[0]["probability"], rel=1e-4)


@pytest.mark.parametrize("name", ["mine.yaml", "best.safetensors"])
def test_specs_and_weights_are_not_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    weights = canonical_file(tmp_path / "w", spec_of())
    with pytest.raises(UsageError, match="is the name of a spec, weights or source"):
        export(spec_of(), weights, "torch-export", tmp_path / name)
    assert (tmp_path / name).read_text() == "precious"
