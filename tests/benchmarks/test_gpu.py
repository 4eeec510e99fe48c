"""What is to run on a GPU runs without one, from a bundle, where there is no compiler."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu, gpu_bundle
from benchmarks.bundled import conduct
from benchmarks.bundled.compare import Comparison, Outcome, compare
from benchmarks.bundled.networks import FOLDED, LEVELS, TINY, Bundle
from benchmarks.bundled.session import Session
from cliquegraph.diagnostics.errors import UsageError

COMMIT = {"commit": "abc", "dirty": False}
PARTS = ["correctness", "speed", "triton", "flax", "cuda-graph", "references", "compiled"]

# What the compiler needs is not there; what PyTorch itself imports of it is.
BLOCKER = """
import importlib.machinery
import sys

COMPILER = {"cliquegraph", "cliquegraph_torch", "cliquegraph_flax"}
NEEDED = {"pydantic", "ruamel", "networkx", "jinja2", "typer"}
find = importlib.machinery.PathFinder.find_spec


def by_torch():
    frame = sys._getframe(2)
    while frame:
        if frame.f_globals.get("__name__", "").startswith("torch."):
            return True
        frame = frame.f_back
    return False


def find_spec(name, path=None, target=None):
    package = name.partition(".")[0]
    if package in COMPILER or (package in NEEDED and not by_torch()):
        return None
    return find(name, path, target)


importlib.machinery.PathFinder.find_spec = find_spec
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    gpu_bundle.write_bundle(folder, COMMIT)
    return folder


def run_bundle(folder: Path, blocker: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run a bundle where the compiler can't be imported."""
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(BLOCKER)
    environment = {**os.environ, "PYTHONPATH": str(blocker)}
    refused = [sys.executable, "-c", "import cliquegraph"]
    assert subprocess.run(refused, env=environment, cwd=blocker, stderr=-3, check=False).returncode
    done = subprocess.run(
        [sys.executable, "gpu.py", *arguments],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_bundle_runs_where_the_compiler_is_missing(bundle: Path, tmp_path: Path) -> None:
    lines = run_bundle(bundle, tmp_path / "blocker", "--dry", f"--output={tmp_path / 'lines'}")
    assert [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()] == lines
    machine, *results, end = lines
    assert machine["commit"] == "abc" and {"python", "torch", "jax", "flax"} < machine.keys()
    assert end["part"] == "end"
    assert (end["failed"], end["left_out"]) == ([], [])
    assert list(dict.fromkeys(line["part"] for line in results)) == PARTS
    for line in results:
        if "precision" in line:
            check_correctness(line)
    checked = {(line["part"], line["precision"]) for line in results if "precision" in line}
    assert {("correctness", "float64"), ("correctness", "float16 autocast")} < checked
    assert ("flax", "float32") in checked
    timed = [row for line in results for row in line.get("variants", line.get("runs", {})).items()]
    assert {name for name, row in timed if row.get("images_per_second", 0) > 0} == {
        *("literal", *LEVELS, "literal, eager", "eager"),
        *(f"{level}, TRITON = {triton}" for level in LEVELS[1:] for triton in range(3)),
    }
    counted = [line for line in results if "launches" in line]
    assert [(line["part"], line["variant"]) for line in counted] == [("flax", v) for v in LEVELS]
    for line in counted:
        assert line["by_opcode"]["convolution"] > 0
        assert line["launches"] == sum(line["by_opcode"].values())


def check_correctness(line: dict[str, Any]) -> None:
    """In float64 and float32 every level computes the same; in half types that may be open."""
    exact = {"float64": 1e-8, "float32": 1e-3}.get(line["precision"])
    assert line["ok"] is True or (exact is None and line["ok"] is None)
    assert {*LEVELS} <= line["variants"].keys()
    assert (FOLDED in line["variants"]) == (line["mode"] == "evaluation")
    for name, row in line["variants"].items():
        assert row["finite"]
        groups = {"logits", "loss"} if name == FOLDED else {"logits", "loss", "gradients"}
        if line["part"] == "correctness" or line["mode"] == "training":
            assert groups <= row["errors"].keys()
        if exact is not None:
            assert max(row["errors"].values()) <= exact
        assert row["errors"]["logits"] < 0.05


def test_a_bundle_is_small_enough_to_send(bundle: Path) -> None:
    assert sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) < 60 * 2**20


def broken(bundle: Path, folder: Path, framework: str, read: str, wrong: str) -> Path:
    """A bundle whose tiny network reads another slice of a kernel at -O1."""
    shutil.copytree(bundle, folder)
    source = folder / "networks" / TINY / f"{framework}_O1.py"
    text = source.read_text()
    assert text.count(read) == 1
    source.write_text(text.replace(read, wrong))
    return folder


def verdicts(lines: list[dict[str, Any]]) -> set[tuple[str, bool | None]]:
    return {(name, row["ok"]) for line in lines for name, row in line["variants"].items()}


def test_a_slice_that_is_wrong_in_torch_is_seen(bundle: Path, tmp_path: Path) -> None:
    folder = broken(bundle, tmp_path / "bundle", "torch", "self.w1[:, k0:]", "self.w1[:, :-k0]")
    *lines, end = run_bundle(folder, tmp_path / "blocker", "--dry", "--only=correctness")
    found = verdicts(
        [
            line
            for line in lines
            if line.get("network") == TINY and line["precision"] in ("float64", "float32")
        ]
    )
    assert found == {*((name, name != "O1") for name in ("literal", *LEVELS, FOLDED))}
    assert f"correctness: float64, {TINY}" in end["failed"]


def test_a_slice_that_is_wrong_in_flax_is_seen(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.bundled import flax_parts

    monkeypatch.setattr(flax_parts, "LEVELS", ("O0", "O1"))
    wrong = "self.w1[:, :, :-k0]"
    folder = broken(bundle, tmp_path / "bundle", "flax", "self.w1[:, :, k0:]", wrong)
    output = io.StringIO()
    session = Session("flax", Bundle(folder), True, 100, time.time(), output)
    flax_parts.check(session, session.bundle.networks[TINY])
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert verdicts(lines) == {("O0", True), ("O1", False), (FOLDED, True)}
    assert [line["ok"] for line in lines] == [False, False]


def test_a_backward_pass_that_fails_leaves_the_forward_pass(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from benchmarks.bundled import torch_correctness

    def backward(tensor: torch.Tensor) -> None:
        raise RuntimeError("no kernel")

    network = Bundle(bundle).networks[TINY]
    run = torch_correctness.Run(torch_correctness.FLOAT64, torch_correctness.CPU, "nchw", True)
    torch_correctness.reference(network, True, 2)
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    for row in torch_correctness.compare_variants(network, run, 2).values():
        assert row["error"] == "RuntimeError: no kernel"
        assert row["ok"] is False
        assert row["errors"].keys() == {"logits", "loss", "statistics"}
        assert max(row["errors"].values()) <= 1e-8


@pytest.mark.parametrize("variant", [*LEVELS, FOLDED])
@pytest.mark.parametrize("framework", ["torch", "flax"])
@pytest.mark.parametrize("name", [TINY, "cliquenet_s0_small"])
def test_a_layout_there_and_back_changes_nothing(
    name: str, framework: str, variant: str, bundle: Path
) -> None:
    network = Bundle(bundle).networks[name]
    tensors, layout = network.weights(variant), network.layout(framework, variant)
    back = layout.to_canonical(layout.to_model(tensors))
    assert back.keys() == tensors.keys()
    for key, array in tensors.items():
        np.testing.assert_array_equal(back[key], array)


# ---- verdicts ------------------------------------------------------------------------------


def outcome(logits: float = 1.0, gradient: float = 1.0) -> Outcome:
    gradients = {"w": np.full(3, gradient), "b": np.full(2, 1e-9)}
    return Outcome(np.full((2, 2), logits), 1.0, gradients)


def test_errors_are_relative_to_the_largest_value() -> None:
    errors = compare(outcome(logits=1.5, gradient=3.0), outcome()).errors
    assert errors["logits"] == 0.5
    assert errors["gradients"] == errors["all_gradients"] == pytest.approx(2.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_an_infinite_error(value: float) -> None:
    comparison = compare(outcome(gradient=value), outcome())
    assert not comparison.finite
    assert comparison.errors["gradients"] == comparison.errors["all_gradients"] == float("inf")
    assert comparison.worst_gradient == "w"


def test_a_missing_gradient_is_an_infinite_error() -> None:
    incomplete = Outcome(np.ones((2, 2)), 1.0, {"w": np.ones(3)})
    errors = compare(incomplete, outcome()).errors
    assert errors["gradients"] == errors["all_gradients"] == float("inf")


@pytest.mark.parametrize(
    ("error", "rounding", "eps", "verdict"),
    [
        (1e-9, 0.0, 2e-16, True),
        (1e-7, 1e-7, 2e-16, False),
        (3e-6, 1e-6, 1.2e-7, True),
        (1e-4, 1e-6, 1.2e-7, False),
        (0.05, 0.02, 8e-3, True),
        (0.9, 0.3, 8e-3, None),
        (float("inf"), 0.02, 8e-3, False),
        (float("inf"), float("inf"), 1e-3, None),
    ],
)
def test_rounding_decides_what_agrees(
    error: float, rounding: float, eps: float, verdict: bool | None
) -> None:
    found, literal = (Comparison({"logits": each}, None) for each in (error, rounding))
    assert found.agrees(literal, eps) is verdict


def test_wrong_logits_are_seen_though_gradients_are_noise() -> None:
    literal = Comparison({"logits": 0.01, "all_gradients": 0.5}, None)
    assert Comparison({"logits": 0.9, "all_gradients": 0.5}, None).agrees(literal, 8e-3) is False
    assert Comparison({"logits": 0.01, "all_gradients": 0.9}, None).agrees(literal, 8e-3) is None


def test_kernels_at_the_same_time_are_one_time() -> None:
    from torch.autograd import DeviceType

    from benchmarks.bundled.kernels import Kernels
    from benchmarks.bundled.torch_steps import launches

    range_of = namedtuple("range_of", "start end elapsed_us")
    event = namedtuple("event", "name device_type is_user_annotation time_range")

    def launch(name: str, start: float, end: float, device: Any = DeviceType.CUDA) -> Any:
        return event(name, device, False, range_of(start, end, lambda: end - start))

    events = [
        launch("aten::conv2d", 0, 100, DeviceType.CPU),
        launch("gemm", 10, 20),
        launch("gemm", 15, 30),
        launch("relu", 40, 45),
        launch("Memset (Device)", 50, 51),
    ]
    kernels = Kernels.of(launches(events))
    assert kernels.count == 3
    assert kernels.busy_seconds == pytest.approx(26e-6)
    assert kernels.longest == pytest.approx({"gemm": 25e-6, "relu": 5e-6, "Memset (Device)": 1e-6})


# ---- what a Flax program launches ----------------------------------------------------------

PROGRAM = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[2]{0})->f32[2]{0}}

FileNames
1 "steps.py"

%fused (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %sine = f32[2]{0} sine(%p), metadata={op_name="jit(step)/sin"}
}

%wrapped (p.1: f32[2]) -> f32[2] {
  %p.1 = f32[2]{0} parameter(0)
  ROOT %loop_fusion = f32[2]{0} fusion(%p.1), kind=kLoop, calls=%fused
}

%body (p.2: (f32[2], s32[])) -> (f32[2], s32[]) {
  %p.2 = (f32[2]{0}, s32[]) parameter(0)
  %item = f32[2]{0} get-tuple-element(%p.2), index=0
  %copy = f32[2]{0} copy(%item)
  %one = s32[] constant(1)
  ROOT %out = (f32[2]{0}, s32[]) tuple(%copy, %one)
}

%condition (p.3: (f32[2], s32[])) -> pred[] {
  %p.3 = (f32[2]{0}, s32[]) parameter(0)
  ROOT %less = pred[] fusion(%p.3), kind=kLoop, calls=%compared
}

%command_buffer (p.4: f32[2]) -> f32[2] {
  %p.4 = f32[2]{0} parameter(0)
  %cudnn-conv.1 = (f32[2]{0}, u8[0]{0}) custom-call(%p.4), custom_call_target="__cudnn$convForward"
  ROOT %result = f32[2]{0} get-tuple-element(%cudnn-conv.1), index=0
}

ENTRY %main (x: f32[2]) -> (f32[2], /*index=1*/f32[2]) {
  %x = f32[2]{0} parameter(0)
  %call = f32[2]{0} call(%x), to_apply=%command_buffer
  %start = ((f32[2]{0}), f32[2]{0}) async-start(%call), calls=%wrapped
  %update = ((f32[2]{0}), f32[2]{0}) async-update(%start)
  %done = f32[2]{0} async-done(%update)
  %view = f32[2,1]{1,0:T(8,128)} bitcast(%done)
  %copied = (f32[2,1]{1,0}, f32[2,1]{1,0}, u32[]) copy-start(%view)
  %there = f32[2,1]{1,0} copy-done(%copied)
  %zero = s32[] constant(0)
  %state = (f32[2]{0}, s32[]) tuple(%done, %zero)
  %while = (f32[2]{0}, s32[]) while(%state), condition=%condition, body=%body
  %last = f32[2]{0} get-tuple-element(%while), index=0
  %small = f32[2]{0} call(%last), to_apply=%body, frontend_attributes={xla_cpu_small_call="true"}
  %branch = f32[2]{0} conditional(%zero, %last, %last), branch_computations={%wrapped, %wrapped}
  ROOT %pair = (f32[2]{0}, /*index=1*/f32[2]{0}) fusion(%branch), kind=kInput, calls=%fused
}
"""


def test_what_a_program_launches_is_counted_in_every_computation_that_it_calls() -> None:
    from benchmarks.bundled.flax_kernels import launched

    assert launched(PROGRAM) == {
        "fusion": 5,
        "copy": 1,
        "copy-start": 1,
        "custom-call": 1,
        "call": 1,
    }


@pytest.fixture(scope="module")
def step(bundle: Path) -> Any:
    """A training step of the tiny network in Flax."""
    from benchmarks.bundled import flax_parts, flax_steps

    network = Bundle(bundle).networks[TINY]
    images, labels = flax_steps.batch(network, 2)
    model = flax_parts.blank(network, "O1", flax_steps.TYPES["bf16"])
    return flax_steps.training_program(model, images, labels, options=flax_parts.QUICK)


def test_what_is_counted_is_what_the_runtime_executes(step: Any) -> None:
    from benchmarks.bundled.flax_kernels import launched, traced

    text = step.compiled.as_text()
    instructions = {*re.findall(r"^  (?:ROOT )?%(\S+) = ", text, re.MULTILINE)}
    profile = traced(step)
    executed = {
        event.name for plane in profile.planes for line in plane.lines for event in line.events
    }
    assert launched(text).total() == len(instructions & executed) > 100


DETAILS = ("kernel", "memcpy", "Memset", "memalloc")
"""What XLA's collector of CUPTI's events calls the details of each kind of event."""


def profile_of(*lines: tuple[str, list[tuple[str, str, int, int]]], plane: str) -> Any:
    """A profile with these events: name, the statistic that describes it, start, end (ns)."""
    from jax.profiler import ProfileData

    names = [f"{kind}_details" for kind in DETAILS] + ["cuda_graph_exec_id"]
    text = f'planes {{ name: "{plane}" '
    for key, name in enumerate(names, 1):
        text += f'stat_metadata {{ key: {key} value {{ id: {key} name: "{name}" }} }} '
    events = {name: None for _, events in lines for name, *_ in events}
    for key, name in enumerate(events, 1):
        text += f'event_metadata {{ key: {key} value {{ id: {key} name: "{name}" }} }} '
    for line, rows in lines:
        text += f'lines {{ name: "{line}" timestamp_ns: 7 '
        for name, detail, start, end in rows:
            text += f"events {{ metadata_id: {[*events].index(name) + 1} "
            text += f"offset_ps: {start * 1000} duration_ps: {(end - start) * 1000} "
            text += f'stats {{ metadata_id: {names.index(detail) + 1} str_value: "x" }} }} '
        text += "} "
    return ProfileData.from_text_proto(text + "}")


STREAMS = (
    (
        "Stream #13(Compute,Memset)",
        [
            ("gemm", "kernel_details", 10_000, 20_000),
            ("fusion_1", "kernel_details", 40_000, 45_000),
            ("Memset", "Memset_details", 50_000, 51_000),
            ("MemoryAlloc", "memalloc_details", 60_000, 90_000),
        ],
    ),
    (
        "Stream #14(Compute,MemcpyD2D)",
        [
            ("gemm", "kernel_details", 15_000, 30_000),
            ("MemcpyD2D", "memcpy_details", 44_000, 47_000),
        ],
    ),
    ("XLA Ops", [("fusion.1", "kernel_details", 0, 100_000)]),
)


def test_the_kernels_of_a_gpu_are_those_of_its_streams() -> None:
    from benchmarks.bundled.flax_kernels import kernels_of

    kernels = kernels_of(profile_of(*STREAMS, plane="/device:GPU:0"))
    assert kernels.count == 3
    assert kernels.busy_seconds == pytest.approx(28e-6)
    assert kernels.longest == pytest.approx(
        {"gemm": 25e-6, "fusion_1": 5e-6, "MemcpyD2D": 3e-6, "Memset": 1e-6}
    )


def test_a_profile_that_hides_kernels_is_refused() -> None:
    from benchmarks.bundled.flax_kernels import kernels_of

    with pytest.raises(RuntimeError, match="no kernels"):
        kernels_of(profile_of(*STREAMS, plane="/host:CPU"))
    graph = ("Stream #15(CudaGraph)", [("graph", "cuda_graph_exec_id", 0, 9_000)])
    with pytest.raises(RuntimeError, match="whole CUDA graphs"):
        kernels_of(profile_of(*STREAMS, graph, plane="/device:GPU:0"))


def test_a_profiler_that_fails_leaves_the_times(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.bundled import flax_parts

    monkeypatch.setattr(flax_parts, "LEVELS", ("O0",))
    monkeypatch.setattr(flax_parts, "ON_CPU", False)
    output = io.StringIO()
    session = Session("flax", Bundle(bundle), True, 100, time.time(), output)
    flax_parts.train(session, TINY, 2)
    _, times, counted, kernels = map(json.loads, output.getvalue().splitlines())
    assert counted["launches"] > 0
    assert times["variants"]["O0"]["images_per_second"] > 0
    assert kernels["error"].startswith("RuntimeError: the profile has no kernels")


# ---- the run -------------------------------------------------------------------------------

SCRIPT = """
import json, sys, time
part = sys.argv[sys.argv.index("--part") + 1]
def line(**fields): print(json.dumps({"part": part, "t": 0.0, **fields}), flush=True)
line(plan=["a", "b", "c"])
line(unit="a", variants={})
"""


def conducted(folder: Path, script: str, seconds: float = 30.0) -> list[dict[str, Any]]:
    (folder / "networks.json").write_text(json.dumps({**COMMIT, "networks": {}}))
    (folder / "gpu.py").write_text(SCRIPT + script)
    return list(conduct.conduct(folder, seconds, ["speed", "cuda-graph"], dry=True))


def test_a_process_that_dies_leaves_its_lines_and_the_next_part_runs(tmp_path: Path) -> None:
    _, *lines, end = conducted(tmp_path, "line(unit='b', error='x')\nsys.exit(3)")
    assert [line["part"] for line in lines] == ["speed"] * 4 + ["cuda-graph"] * 4
    assert lines[3]["error"] == "the process ended with 3"
    assert end["failed"] == ["speed: b", "speed", "cuda-graph: b", "cuda-graph"]
    assert end["left_out"] == ["speed: b", "speed: c", "cuda-graph: b", "cuda-graph: c"]


def test_a_process_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conduct, "GRACE", 0)
    start = time.monotonic()
    _, *lines, end = conducted(tmp_path, "time.sleep(100)", seconds=6.0)
    assert time.monotonic() - start < 20
    assert lines[-1]["stopped"].startswith("no time left")
    assert {"speed: a", "cuda-graph: c"} < {*end["left_out"]}


def test_what_is_finished_is_not_left_out(tmp_path: Path) -> None:
    *_, end = conducted(tmp_path, "line(unit='b')\nline(unit='c')\nline(finished=True)")
    assert (end["failed"], end["left_out"]) == ([], [])


def test_lines_from_elsewhere_become_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = {"part": "machine", **COMMIT, "python": "3.12"}
    lines = [machine, {"part": "speed", "device": "NVIDIA H100 80GB"}, {"part": "end"}]
    (tmp_path / "lines").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["gpu.py", f"--lines={tmp_path / 'lines'}", "--output"])
    gpu.main()
    result = json.loads((tmp_path / "gpu_nvidia_h100_80gb.json").read_text())
    assert result["machine"] == machine and result["commit"] == "abc"
    assert result["results"] == lines[1:]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == lines


def test_lines_that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lines").write_text("{}\nnothing\n")
    monkeypatch.setattr("sys.argv", ["gpu.py", f"--lines={tmp_path / 'lines'}"])
    with pytest.raises(UsageError, match="can't read lines from"):
        gpu.main()


def test_a_part_that_does_not_exist_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu.py", "--only=speed,heat"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "'heat' is none of correctness, speed" in capsys.readouterr().err
