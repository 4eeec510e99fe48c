"""The examples, as a user runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def test_weights_move_from_pytorch_to_flax(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "move_weights.py")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    difference = re.search(r"^126 tensors; largest difference of logits (\S+)$", ran.stdout)
    assert difference is not None, ran.stdout
    assert float(difference[1]) < 1e-4
    assert (tmp_path / "quickstart.safetensors").is_file()


def test_a_backbone_segments_shapes(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "segment_shapes.py"), "--steps", "60"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    before, after = (float(line.split()[-1]) for line in ran.stdout.splitlines())
    assert before < 0.3
    assert after > before + 0.2


def test_regions_are_read_at_each_time_step() -> None:
    command = [sys.executable, str(ROOT / "examples" / "brain_score.py")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    reached = re.findall(r"^(\w+): \d+ units, reached in step (\d)$", ran.stdout, re.MULTILINE)
    assert reached == [("V1", "1"), ("V2", "2"), ("V4", "3"), ("IT", "4")]
    rows = [line.split(":")[1].split() for line in ran.stdout.splitlines() if "step " in line[:8]]
    assert len(rows) == 4 * 5
    for region in range(4):
        steps = rows[5 * region : 5 * region + 5]
        assert [row[s] for s, row in enumerate(steps)] == ["–"] * region + ["1.00"] * (5 - region)
        assert steps == [list(column) for column in zip(*steps, strict=True)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device")
def test_a_cuda_graph_by_hand_says_that_it_needs_a_gpu() -> None:
    command = [sys.executable, str(ROOT / "examples" / "cuda_graph.py")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1 and not ran.stdout
    assert ran.stderr == "CUDA graphs need a CUDA device, and PyTorch finds none\n"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_graph_by_hand_trains() -> None:
    command = [sys.executable, str(ROOT / "examples" / "cuda_graph.py"), "--steps", "200"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = (float(line.split()[-1]) for line in ran.stdout.splitlines()[1:])
    assert second < first < 4
