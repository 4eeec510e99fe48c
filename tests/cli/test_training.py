"""The commands that train and that use what was trained."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from cliquegraph.training.train import train
from cliquegraph_torch.choice import CPU_LEVEL
from tests.command import Hide, Ran, Run
from tests.trainings import SPEC, Stopping, command, distance, job, measured
from tests.trainings import run as run_apart

pytest.importorskip("pytorch_lightning")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

QUICKSTART = str(SPEC)
TRAIN = ("train", QUICKSTART, "--data", "digits", "--epochs", "4")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    done = run_apart(command(*TRAIN, "--validation", "0.1", "--out", out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"wrote {out}")
    assert len(done.stdout.splitlines()) == 6
    return out


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    pixels = (load_digits().images[1] * 255 / 16).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    return tmp_path / "one.png"


def test_a_run_holds_what_was_done(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} >= {
        "run.json",
        "spec.json",
        "quickstart.py",
        "metrics.csv",
        "steps.csv",
        "best.safetensors",
        "last.safetensors",
        "tensorboard",
        "checkpoints",
    }
    facts = json.loads((trained / "run.json").read_text())
    assert facts["command"][1:] == [*TRAIN, "--validation", "0.1", "--out", str(trained)]
    rows = measured(trained)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert float(rows[-1]["test_top1"]) > 0.9


def test_evaluate_gives_what_training_gave(run: Run, trained: Path) -> None:
    last = measured(trained)[-1]
    for part in ("validation", "test"):
        words = ("evaluate", QUICKSTART, "--data", "digits", "--part", part)
        found = json.loads(
            run(*words, "--weights", str(trained / "last.safetensors"), "--json").out
        )
        assert found["top1"] == float(last[f"{part}_top1"])
        assert found["loss"] == pytest.approx(float(last[f"{part}_loss"]), rel=1e-5)
        assert sum(map(sum, found["confusion"])) == found["images"]
    best = str(trained / "best.safetensors")
    found_best = json.loads(run(*words[:-1], "validation", "--weights", best, "--json").out)
    assert found_best["top1"] == max(float(row["validation_top1"]) for row in measured(trained))
    shown = run(*words, "--weights", str(trained / "last.safetensors"))
    assert f"top-1 {found['top1']:.2%}" in shown.out and "true class" in shown.out
    absent = run(*words[:-1], "extra", "--weights", str(trained / "last.safetensors"))
    assert absent.code == 2 and "it has train, validation, test" in absent.err


def test_predict_names_the_digit(run: Run, trained: Path, digit: Path) -> None:
    words = ("predict", QUICKSTART, str(digit), "--weights", str(trained / "best.safetensors"))
    (guess, *_) = json.loads(run(*words, "--json").out)["guesses"]
    assert guess["class"] == "1" and guess["probability"] > 0.5
    assert "one.png" in run(*words).out
    lonely = digit.parent / "alone.safetensors"
    lonely.write_bytes((trained / "best.safetensors").read_bytes())
    alone = run("predict", QUICKSTART, str(digit), "--weights", str(lonely))
    assert alone.code == 2 and "are not in a run" in alone.err
    (lonely.parent / "run.json").write_text("{}")
    foreign = run(*alone_words(digit, lonely))
    assert foreign.code == 2 and "run.json was not written by a run" in foreign.err
    facts = json.loads((trained / "run.json").read_text())
    for changed, said in (
        ({"statistics": {"mean": [0.5], "std": [0.0]}}, "statistics.std.0: "),
        ({"statistics": {"mean": [0.5] * 3, "std": [0.1] * 3}}, "statistics for 3 channels"),
        ({"classes": ["a"] * 11}, "is in a run with 11 classes, but quickstart has 10"),
    ):
        (lonely.parent / "run.json").write_text(json.dumps(facts | changed))
        foreign = run(*alone_words(digit, lonely))
        assert foreign.code == 2 and said in foreign.err
    (lonely.parent / "run.json").unlink()
    assert run(*alone_words(digit, lonely), "--recipe", "svhn").code == 0


def alone_words(digit: Path, weights: Path) -> tuple[str, ...]:
    return ("predict", QUICKSTART, str(digit), "--weights", str(weights))


def test_curves_draw_every_part_of_every_run(run: Run, trained: Path, tmp_path: Path) -> None:
    for suffix in ("svg", "png", "html"):
        assert run("curves", str(trained), "-o", str(tmp_path / f"c.{suffix}")).code == 0
    ElementTree.parse(tmp_path / "c.svg")  # noqa: S314  # our own
    page = (tmp_path / "c.html").read_text()
    for row in measured(trained):
        assert f"<td>{float(row['test_top1']):.2%}</td>" in page
    again = tmp_path / "again.svg"
    run("curves", str(trained), "-o", str(again))
    assert again.read_bytes() == (tmp_path / "c.svg").read_bytes()
    assert run("curves", str(tmp_path), "-o", str(again)).code == 2
    assert run("curves", str(trained), "-o", str(tmp_path / "c.gif")).code == 2


def test_the_schedule_is_drawn_and_nothing_trained(run: Run, tmp_path: Path) -> None:
    done = run(*TRAIN, "--plot", str(tmp_path / "rate.html"), "--out", str(tmp_path / "run"))
    assert done.code == 0 and not (tmp_path / "run").exists()
    assert done.out.endswith(": 0.1 from epoch 0, 0.01 from epoch 2, 0.001 from epoch 3\n")
    cells = (tmp_path / "rate.html").read_text().split("<td>")
    rates = [float(cell.split("<")[0]) for cell in cells[2::2]]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_the_schedule_needs_no_images(run: Run, tmp_path: Path) -> None:
    done = run("train", QUICKSTART, "--plot", str(tmp_path / "rate.svg"))
    assert done.code == 0, done.err
    assert ": 0.1 from epoch 0, 0.01 from epoch 150" in done.out
    assert "--data names the images to train on: cifar10" in refused(run, "train", QUICKSTART)


def test_features_of_each_stage_are_drawn(run: Run, trained: Path, digit: Path) -> None:
    picture = digit.with_suffix(".svg")
    words = ("inspect", "features", QUICKSTART, str(digit))
    words += ("--weights", str(trained / "best.safetensors"))
    rows = json.loads(run(*words, "-o", str(picture), "--json").out)
    assert [(row["block"], row["stage"]) for row in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [row["change"] is None for row in rows] == [True, False, True, False]
    assert all(row["mean"] >= row["overall"] for row in rows)
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")  # noqa: S314  # our own
    flax = json.loads(run(*words, "--backend", "flax", "--json").out)
    for one, other in zip(rows, flax, strict=True):
        for name in one:
            expected = one[name] if one[name] is None else pytest.approx(one[name], rel=1e-3)
            assert other[name] == expected


def test_no_name_of_an_image_breaks_a_picture(run: Run, trained: Path, digit: Path) -> None:
    hostile = digit.rename(digit.parent / "\x1b[2J<script>\u202e&amp;\udcff.png")
    words = ("inspect", "features", QUICKSTART, str(hostile))
    words += ("--weights", str(trained / "best.safetensors"))
    for suffix in ("svg", "html"):
        picture = digit.with_suffix(f".{suffix}")
        ran = run(*words, "-o", str(picture))
        text = picture.read_text(encoding="utf-8")
        assert ran.code == 0
        for character in "\x1b\u202e\udcff":
            assert character not in text and character not in ran.out
        assert "<script>\\u202e" not in text
    ElementTree.parse(digit.with_suffix(".svg"))  # noqa: S314  # our own
    hostile.rename(digit)


def test_a_study_compares_and_goes_on(run: Run, tmp_path: Path) -> None:
    words = ("study", QUICKSTART, "--data", "digits", "--subset", "64", "--batch-size", "32")
    words += ("--epochs", "1", "--seeds", "2", "--out", str(tmp_path))
    words += ("--variant", "one:blocks.*.stages=1", "--variant", "two:blocks.*.stages=2")
    first = run(*words)
    assert first.code == 0, first.err
    assert first.out.count("-O selects another level") == 1  # alike in all four runs
    again = run(*words, "--json")
    found = json.loads(again.out)
    assert [each["variant"] for each in found] == ["one", "two"]
    assert all(len(each["top1"]) == 2 for each in found)
    assert found[0]["parameters"] < found[1]["parameters"]
    assert again.err.count("already complete") == 4
    assert again.err.count("as in the resumed run") == 1
    for each in found:
        assert each["mean"] == pytest.approx(np.mean(each["top1"]))
        assert each["std"] == pytest.approx(np.std(each["top1"], ddof=1))


def refused(run: Run, *words: str) -> str:
    done: Ran = run(*words)
    assert (done.code, done.out) == (2, ""), done
    assert done.err.startswith("error[") and "Traceback" not in done.err
    return done.err


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nothing"], "there is no data set 'nothing'"),
        (["--data", "fashion-mnist:/nowhere"], "/nowhere does not exist"),
        (["--recipe", "mine"], "there is no recipe 'mine'; choose from cifar, svhn, imagenet"),
        (["--precision", "int8"], "there is no precision 'int8'"),
        (["--milestones", "half"], "--milestones are fractions"),
        (["--milestones", "0.7,0.2"], "milestones are ascending fractions"),
        (["--normalisation", "none"], "there is no normalisation 'none'"),
        (["--batch-size", "4096"], "4096"),
        (["--accumulate", "3"], "use --batch-size 66"),
        (["--sync-batchnorm", "-O", "1"], "leave out -O"),
        (["--backend", "numpy"], "there is no training engine for 'numpy'; installed: flax, torch"),
        (["--learning-rate", "0"], "the learning rate 0 is out of range"),
        (["--momentum", "1.5"], "the momentum 1.5"),
        (["--plot", "rate.gif"], "a schedule is .svg, .png, .html, not 'gif'"),
    ],
)
def test_what_cannot_be_trained_is_said(
    run: Run, folder: Path, words: list[str], message: str
) -> None:
    assert message in refused(run, *TRAIN, "--out", str(folder), *words)


def test_a_run_is_not_overwritten_nor_taken_for_another(run: Run, trained: Path) -> None:
    before = (trained / "metrics.csv").read_bytes()
    same = (*TRAIN, "--validation", "0.1", "--out", str(trained))
    assert "--resume continues it" in refused(run, *same)
    other = refused(run, *same, "--resume", "--seed", "1", "--learning-rate", "0.2")
    assert "recipe.learning_rate was 0.1, is now 0.2" in other and "seed was 0, is now 1" in other
    assert run(*same, "--resume").code == 0
    assert (trained / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize("backend", ["torch", "flax"])
def test_a_run_is_extended_at_its_last_rate(run: Run, tmp_path: Path, backend: str) -> None:
    words = ("train", QUICKSTART, "--data", "digits", "--subset", "128", "--backend", backend)
    words += ("--batch-size", "32", "--out", str(tmp_path))
    missing = refused(run, *words, "--epochs", "4", "--resume", "--extend")
    assert "is not a run" in missing
    assert run(*words, "--epochs", "4").code == 0
    before = (tmp_path / "metrics.csv").read_bytes()
    refusal = refused(run, *words, "--epochs", "6", "--resume")
    assert "recipe.epochs was 4, is now 6; --extend trains further epochs" in refusal
    fewer = refused(run, *words, "--epochs", "3", "--resume", "--extend")
    assert "has 4 epochs: --extend takes as many or more, not 3" in fewer
    other = refused(run, *words, "--epochs", "6", "--resume", "--extend", "--seed", "1")
    assert other.endswith("seed was 0, is now 1\n")
    for wrong in (("--extend",), ("--extend", "--epochs", "6"), ("--extend", "--resume")):
        assert "--extend takes --resume and the new number of --epochs" in refused(
            run, *words, *wrong
        )
    for _ in range(2):  # the second continues a run that is over
        done = run(*words, "--epochs", "6", "--resume", "--extend")
        assert done.code == 0, done.err
        assert (tmp_path / "metrics.csv").read_bytes().startswith(before)
        rates = [float(row["learning_rate"]) for row in measured(tmp_path)]
        assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001, 0.001])
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["recipe"]["epochs"] == 6


def test_an_extended_run_that_is_stopped_goes_on(tmp_path: Path) -> None:
    from dataclasses import replace

    begun, whole, parts = job("torch"), tmp_path / "whole", tmp_path / "parts"
    more = replace(begun, recipe=begun.recipe.extended(begun.recipe.epochs + 2))
    for folder in (whole, parts):
        train(begun, folder)
    train(more, whole, resume=True)
    assert train(more, parts, resume=True, display=Stopping(begun.recipe.epochs)).interrupted
    train(more, parts, resume=True)
    assert distance(whole, parts) == 0.0


def test_what_only_classifies_needs_no_trainer(
    run: Run, trained: Path, digit: Path, hide: Hide
) -> None:
    hide("pytorch_lightning", "orbax.checkpoint")
    weights = ("--weights", str(trained / "best.safetensors"))
    for backend in ("torch", "flax"):
        assert run("predict", QUICKSTART, str(digit), *weights, "--backend", backend).code == 0
    refusal = refused(run, *TRAIN, "--out", str(trained.parent / "none"))
    needs = "training in PyTorch needs pytorch-lightning: pip install pytorch-lightning"
    assert needs in refusal
    refusal = refused(run, *TRAIN, "--backend", "flax", "--out", str(trained.parent / "none"))
    assert "training in Flax needs orbax-checkpoint: pip install orbax-checkpoint" in refusal


def test_the_default_is_the_framework_that_is_installed(
    run: Run, trained: Path, digit: Path, hide: Hide
) -> None:
    from cliquegraph.plugins.engines import default_engine

    assert default_engine("torch") == "torch"
    hide("torch")
    assert default_engine("torch") == "flax"
    weights = ("--weights", str(trained / "best.safetensors"))
    assert run("predict", QUICKSTART, str(digit), *weights).code == 0
    refusal = refused(run, "predict", QUICKSTART, str(digit), *weights, "--backend", "torch")
    assert "running a network in PyTorch needs torch: pip install torch" in refusal
    hide("torch", "flax", "jax")
    refusal = refused(run, *TRAIN, "--out", str(trained.parent / "none"))
    assert "training in PyTorch needs torch: pip install torch" in refusal


def test_a_level_is_chosen_and_said(run: Run, trained: Path, tmp_path: Path) -> None:
    from cliquegraph.plugins.engines import find_engine

    assert json.loads((trained / "run.json").read_text())["level"] == CPU_LEVEL
    choice = find_engine("torch").choose(job("torch", any_level=True))
    line = f"-O{CPU_LEVEL}, channels_last {choice.why}; -O selects another level"
    words = (*TRAIN, "--subset", "64")
    assert run(*words, "--out", str(tmp_path / "free")).out.splitlines()[0] == line
    asked = run(*words, "-O", "2", "--no-channels-last", "--out", str(tmp_path / "asked"))
    assert asked.out.startswith("epoch 0")
    facts = json.loads((tmp_path / "asked" / "run.json").read_text())
    assert (facts["level"], facts["channels_last"]) == (2, False)


def test_a_run_goes_on_at_the_level_that_it_recorded(run: Run, tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    begun = job("torch", level=2, channels_last=False)  # not what would be chosen today
    train(begun, whole)
    assert train(begun, again, display=Stopping(1)).interrupted
    facts = json.loads((again / "run.json").read_text())
    del facts["channels_last"], facts["cudnn_benchmark"]
    (again / "run.json").write_text(json.dumps(facts))
    words = ("train", QUICKSTART, "--data", "digits", "--subset", "128", "--epochs", "2")
    words += ("--batch-size", "32", "--set", "expect={}", "--out", str(again), "--resume")
    assert "level was 2, is now 0" in refused(run, *words, "-O", "0")
    assert "channels_last was False, is now True" in refused(run, *words, "--channels-last")
    done = run(*words)
    assert done.code == 0, done.err
    assert "-O2, as in the resumed run" in done.out.splitlines()
    assert distance(whole, again) == 0.0


def test_flax_has_one_memory_format(run: Run, folder: Path) -> None:
    words = (*TRAIN, "--backend", "flax", "--out", str(folder))
    assert "channels-last already" in refused(run, *words, "--no-channels-last")
    assert "leave out --[no-]cudnn-benchmark" in refused(run, *words, "--cudnn-benchmark")
    assert "one compiled program already" in refused(run, *words, "--cuda-graph")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device")
def test_a_cuda_graph_needs_a_gpu(run: Run, folder: Path) -> None:
    words = (*TRAIN, "--backend", "torch", "--out", str(folder), "--cuda-graph")
    assert "finds none: leave it out; on a CPU" in " ".join(refused(run, *words).split())
    assert not folder.exists()
    words = ("study", QUICKSTART, "--data", "digits", "--backend", "torch", "--cuda-graph")
    done = run(*words, "--seeds", "1", "--set", "expect={}", "--out", str(folder))
    assert done.code == 2
    assert "finds none: leave it out; on a CPU" in " ".join(done.err.split())
    assert not folder.exists()


def test_a_run_that_was_killed_at_its_start_begins_again(run: Run, tmp_path: Path) -> None:
    for name in (".lock", ".run.json.abc", "spec.json"):
        (tmp_path / name).write_text("")
    words = (*TRAIN, "--subset", "64", "--epochs", "1", "--out", str(tmp_path))
    assert run(*words).code == 0
    (tmp_path / ".last.safetensors.abc").write_text("")
    assert run(*words, "--resume").code == 0
    assert not (tmp_path / ".last.safetensors.abc").exists()


def test_other_images_are_not_gone_on_with(run: Run, tmp_path: Path) -> None:
    for label, value in enumerate((40, 200)):
        for number in range(12):
            place = tmp_path / "images" / ("train" if number < 8 else "val") / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            pixels = np.full((10, 12), value + number, np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    words = ("train", QUICKSTART, "--data", f"folder:{tmp_path / 'images'}", "--epochs", "1")
    words += ("--batch-size", "8", "--augmentation", "resized_crop_flip")
    words += ("--set", "classifier.classes=2", "--set", "expect={}", "--out", str(tmp_path / "run"))
    done = run(*words)
    assert done.code == 0, done.err
    weights = ("--weights", str(tmp_path / "run" / "last.safetensors"), "--json")
    found = run("evaluate", QUICKSTART, *words[2:4], *words[10:14], *weights)
    assert found.code == 0, found.err
    # With the margin of the run's augmentation, which is not the spec's.
    last = float(measured(tmp_path / "run")[-1]["test_loss"])
    assert json.loads(found.out)["loss"] == pytest.approx(last, rel=1e-6)
    (tmp_path / "images" / "train" / "class0" / "0.png").unlink()
    refusal = refused(run, *words, "--resume")
    assert "images.train was 16, is now 15" in refusal


def test_a_study_is_checked_before_it_begins(run: Run, tmp_path: Path) -> None:
    words = ("study", QUICKSTART, "--data", "digits", "--out", str(tmp_path / "study"))
    twice = refused(run, *words, "--variant", "a:expect={}", "--variant", "a:expect={}")
    assert "need distinct names" in twice
    done = run(*words, "--variant", "a:expect={}", "--variant", "b:blocks.*.stages=0")
    assert done.code == 2 and "stages" in done.err
    assert not (tmp_path / "study").exists()


def test_a_folder_of_something_else_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert "is not empty and not a run" in refused(run, *TRAIN, "--out", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_hidden_file_is_something_else_and_a_start_that_was_killed_is_not(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / ".git").mkdir()
    assert "is not empty and not a run" in refused(run, *TRAIN, "--out", str(tmp_path))
    (tmp_path / ".git").rmdir()
    for name in (".lock", "spec.json", "quickstart.py", ".run.json.x7c2"):
        (tmp_path / name).write_text("left")
    assert run(*TRAIN[:-1], "1", "--out", str(tmp_path)).code == 0


def test_two_may_not_train_into_one_folder(run: Run, tmp_path: Path) -> None:
    from cliquegraph.training.run import Run as Folder

    held = Folder(tmp_path / "run")
    held.start(job("torch"), "", {})
    try:
        words = ("train", QUICKSTART, "--data", "digits", "--subset", "128", "--epochs", "2")
        words += ("--batch-size", "32", "--set", "expect={}", "--out", str(tmp_path / "run"))
        assert "another process is using" in refused(run, *words, "--resume")
    finally:
        held.release()


@pytest.mark.parametrize(("backend", "size"), [("torch", "1500k"), ("flax", "2200k")])
def test_a_full_disk_is_said_and_leaves_what_was_whole(
    tmp_path: Path, backend: str, size: str
) -> None:
    mount = f"mount -t tmpfs -o size={size} none {tmp_path}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:  # noqa: S607
        pytest.skip("a small file system can't be mounted here")
    out = tmp_path / "run"
    words = command("train", SPEC, "--data", "digits", "--subset", "128", "--batch-size", "32")
    words += ["--epochs", "6", "--backend", backend, "--out", str(out)]
    left = f"ls {out}/checkpoints; echo $code"
    done = run_apart(
        ["unshare", "-m", "sh", "-c", f"{mount} && {shlex.join(words)}; code=$?; {left}"]
    )
    assert re.match(r"error\[\w+\]: can't write ", done.stderr)
    assert "No space left on device" in done.stderr and len(done.stderr.splitlines()) == 1
    *kept, code = [
        line for line in done.stdout.splitlines() if not line.startswith(("epoch", "-O"))
    ]
    assert kept == ["step-00000004"] and code in ("1", "2")


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(),
    reason="needs Debian's dataset-fashion-mnist",
)
def test_it_learns_real_images(tmp_path: Path) -> None:
    spec = SPEC.with_name("fashion.yaml")
    words = command("train", spec, "--data", "fashion-mnist", "--subset", "1000", "--epochs", "2")
    done = run_apart([*words, "--milestones", "0.5", "--out", str(tmp_path / "run")])
    assert done.returncode == 0, done.stderr
    assert float(measured(tmp_path / "run")[-1]["test_top1"]) > 0.5


OVER_TIME = (
    *("--set", "readout={blocks: last, stages: all}", "--set", "blocks=[{layers: 2, filters: 4}]"),
    *("--set", "expect={}"),
)


def test_a_readout_over_time_is_scored_stage_by_stage(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("--epochs", "1", "--subset", "128", "--out", str(out), "--stage-weights")
    done = run("train", QUICKSTART, "--data", "digits", *words, "0,1", *OVER_TIME)
    assert done.code == 0
    assert json.loads((out / "run.json").read_text())["recipe"]["stage_weights"] == [0, 1]
    scored = (
        "evaluate",
        QUICKSTART,
        "--data",
        "digits",
        "--weights",
        str(out / "last.safetensors"),
    )
    found = json.loads(run(*scored, *OVER_TIME, "--json").out)
    (last,) = measured(out)
    assert [each["stage"] for each in found["stages"]] == [1, 2]
    assert found["stages"][1]["top1"] == found["top1"] == float(last["test_top1"])
    assert found["stages"][0]["macs"] < found["stages"][1]["macs"]
    shown = run(*scored, *OVER_TIME).out
    assert "each stage, with the MACs that it takes" in shown
    assert f"{found['stages'][0]['top1']:.2%}" in shown
    more = run(*scored, *OVER_TIME, "--set", "blocks.0.stages=4")
    assert more.code == 2 and "share their normalizations: norms: shared" in more.err
    for weights, message in (
        ("1", "1 stage weight, but quickstart reads 2"),
        ("a", "are numbers"),
    ):
        refused = run("train", QUICKSTART, "--data", "digits", *words, weights, *OVER_TIME)
        assert refused.code == 2 and message in refused.err


def test_the_last_stage_predicts(run: Run, trained: Path, digit: Path) -> None:
    words = ("predict", QUICKSTART, str(digit), "--weights")
    out = digit.parent / "run"
    trains = ("train", QUICKSTART, "--data", "digits", "--epochs", "1", "--subset", "128")
    assert run(*trains, "--out", str(out), *OVER_TIME).code == 0
    (guess, *_) = json.loads(run(*words, str(out / "last.safetensors"), *OVER_TIME, "--json").out)[
        "guesses"
    ]
    assert 0 < guess["probability"] < 1
