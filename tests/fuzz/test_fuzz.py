"""Random networks hold; a defect that is put in is found, made small, and written down."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import cliquegraph
from cliquegraph.diagnostics.codes import Code
from cliquegraph.diagnostics.errors import Diagnostic, SpecError
from cliquegraph.emit.code import Code as Source
from cliquegraph.emit.code import Text
from cliquegraph.emit.view import BankSlice
from cliquegraph.fuzz.fuzz import TARGETS, Target, fuzz
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.steps.sharing import Claim, Proof
from cliquegraph_flax.execute import FlaxExecutor
from cliquegraph_torch.execute import TorchExecutor
from cliquegraph_torch.spell import TorchSpeller
from tests.command import Run
from tests.networks import DYING

BOTH = ("torch", "flax")


def shift_later_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stages from 2 on read kernels that lie one channel too early."""
    spell = TorchSpeller.bank_slice

    def shifted(self: TorchSpeller, view: BankSlice) -> Source:
        if view.start is not None and view.stop is None:
            return Text(f"self.{view.name}[:, {view.start} - 1:-1]")
        return spell(self, view)

    monkeypatch.setattr(TorchSpeller, "bank_slice", shifted)


# ---- networks hold -------------------------------------------------------------------------


def test_random_networks_hold_in_pytorch_at_every_level(tmp_path: Path) -> None:
    found = fuzz(5, seed=5, backends=["torch"], folder=tmp_path / "fuzz")
    assert found.ok
    assert not (tmp_path / "fuzz").exists()
    assert found.targets == TARGETS
    assert [target.option for target in TARGETS] == [*(f"-O{i}" for i in LEVELS), "--inference"]


@pytest.mark.parametrize("target", [Target(2), Target(inference=True)], ids=str)
def test_random_networks_hold_in_both(target: Target, tmp_path: Path) -> None:
    assert fuzz(1, seed=6, backends=BOTH, targets=[target], folder=tmp_path).ok


def test_it_says_how_far_it_is(tmp_path: Path) -> None:
    lines: list[str] = []
    fuzz(2, backends=["torch"], targets=[Target(0)], folder=tmp_path, report=lines.append)
    assert lines == ["spec 1 of 2, 0 failed", "spec 2 of 2, 0 failed"]


# ---- what is wrong is found ----------------------------------------------------------------


def test_a_defect_is_found_made_small_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run
) -> None:
    shift_later_slices(monkeypatch)
    out = tmp_path / "found"
    words = ["fuzz", "--count", "3", "--seed", "0", "--backends", "torch", "-O", "1"]
    code, printed, _ = run(*words, "-o", str(out))
    assert code == 1
    (path, *_) = sorted(out.glob("*.yaml"))
    assert f"forward: cliquegraph verify {path} --backends torch -O1 --seed 0" in printed

    network = cliquegraph.load(path)
    (block,) = network.blocks
    assert (block.layers, block.stages) == (2, 2)
    drawn, what, command = (line for line in path.read_text().splitlines() if line[0] == "#")
    assert drawn.startswith("# drawn by cliquegraph fuzz --count 1 --seed 0 --start ")
    assert "the first value that differs is x1_2 of block1, by " in what
    assert run(*shlex.split(command.removeprefix("# cliquegraph "))).code == 1
    again = shlex.split(drawn.partition(";")[0].removeprefix("# drawn by cliquegraph "))
    assert run(*again, "--backends", "torch", "-O", "1", "-o", str(out)).code == 1

    monkeypatch.undo()
    assert cliquegraph.verify(network, ["torch"]).ok


def test_what_a_model_raises_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(self: TorchSpeller, view: BankSlice) -> Source:
        return Text(f"self.{view.name}_nowhere")

    monkeypatch.setattr(TorchSpeller, "bank_slice", broken)
    found = fuzz(4, backends=["torch"], targets=[Target(0)], folder=tmp_path)
    each, *_ = found.found
    assert each.failure.kind == "AttributeError"
    assert "_nowhere'" in each.failure.detail


@pytest.mark.parametrize(("executor", "name"), [(TorchExecutor, "torch"), (FlaxExecutor, "flax")])
def test_a_model_with_other_parameters_is_a_failure(
    executor: Any, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    count = executor.parameters
    monkeypatch.setattr(executor, "parameters", lambda self: count(self) + 1)
    folded = [Target(inference=True)]
    (each,) = fuzz(1, seed=1, backends=[name], targets=folded, folder=tmp_path).found
    assert each.failure.kind == "parameters"
    assert each.failure.detail.startswith(f"{name}: the model has ")


def test_a_proof_that_breaks_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = Proof((Claim(1, "rule", False, "wrong"),))
    monkeypatch.setattr(sys.modules["cliquegraph.compiler"], "prove_sharing", lambda *_: broken)
    (each,) = fuzz(1, seed=3, backends=["torch"], folder=tmp_path).found
    assert each.path.name == "seed3_spec0.yaml"
    assert each.failure.kind == "sharing"
    assert each.failure.detail == "block 1, rule: wrong"
    assert each.failure.command(each.path) == f"cliquegraph check {each.path}"


@pytest.mark.parametrize("error", [SpecError(Diagnostic(Code.SIZE, "no")), RuntimeError("no")])
def test_a_loader_or_lowering_that_refuses_all_is_a_failure(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> Any:
        raise error

    for module in ("draw", "fuzz"):
        monkeypatch.setattr(sys.modules[f"cliquegraph.fuzz.{module}"], "read_document", refuse)
    (each,) = fuzz(1, seed=3, backends=["torch"], folder=tmp_path).found
    assert each.path.name == "seed3_spec0.yaml"
    assert each.failure.kind == ("refused" if isinstance(error, SpecError) else "RuntimeError")
    assert each.path.is_file()


def test_what_can_not_be_compared_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run
) -> None:
    drawn = DYING.model_dump(mode="json", exclude_none=True)
    monkeypatch.setattr(sys.modules["cliquegraph.fuzz.fuzz"], "draw_spec", lambda *_: drawn)
    words = ["fuzz", "--count=1", "--seed=2", "--backends=torch", "-O1", f"-o{tmp_path}"]
    assert (
        "training is inconclusive for 1 spec: rounding alone changes it as much" in run(*words).out
    )
    (each,) = json.loads(run(*words, "--json").out)["unjudged"]
    assert each["index"] == 0
    assert each["option"] == "-O1"
    assert each["detail"].startswith("weights after 3 SGD steps: changing last digits ")


# ---- the command ---------------------------------------------------------------------------


def test_the_command_prints_json(run: Run, tmp_path: Path) -> None:
    words = ["fuzz", "--count", "2", "--start", "4", "--backends", "torch", "--inference"]
    ran = run(*words, "--json", "-o", str(tmp_path))
    data = json.loads(ran.out)
    assert ran.code == 0
    assert {key: data[key] for key in ("seed", "start", "count", "ok", "failures")} == {
        "seed": 0,
        "start": 4,
        "count": 2,
        "ok": True,
        "failures": [],
    }
    assert data["options"] == ["--inference"]
    assert data["coverage"]["cliquegraph: 1"] == 2


def test_the_command_prints_what_was_drawn(run: Run, tmp_path: Path) -> None:
    ran = run("fuzz", "--count", "1", "--backends", "torch", "--level", "0", "-o", str(tmp_path))
    assert ran.code == 0
    assert "clique.update" in ran.out
    assert "\n1 spec of seed 0, from 0: torch at -O0; " in ran.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--level", "9"], "error[usage]: there is no level -O9"),
        (
            ["--level", "1", "--inference"],
            "error[usage]: --inference replaces the level",
        ),
        (["--backends", "fortran"], "error[backend]: there is no backend 'fortran'"),
    ],
)
def test_the_command_refuses_what_does_not_exist(words: list[str], message: str, run: Run) -> None:
    ran = run("fuzz", *words)
    assert ran.code == 2
    assert ran.err.startswith(message)
