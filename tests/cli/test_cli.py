"""The command line: exit codes, JSON, files, messages."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cliquegraph import StepGraph, cli, compiler, prove_sharing
from cliquegraph.cli.completion import complete_backend
from cliquegraph.diagnostics.errors import UsageError, VerificationError
from cliquegraph.ir.ops import BatchNorm
from cliquegraph.passes.pipeline import LEVELS
from cliquegraph.steps.sharing import Proof
from tests.command import Hide, Run

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs"
QUICKSTART = "specs/quickstart.yaml"


def test_compile_writes_each_backend_and_is_idempotent(run: Run, tmp_path: Path) -> None:
    first = run("compile", QUICKSTART, "--out", str(tmp_path))
    assert first.code == 0
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py"))
    assert files == ["flax/quickstart.py", "torch/quickstart.py"]
    # Compiling is a function of the spec alone: what is committed comes out again.
    for name in files:
        assert (tmp_path / name).read_bytes() == (ROOT / "generated" / name).read_bytes()
    stamps = [path.stat().st_mtime_ns for path in tmp_path.rglob("*.py")]
    again = run("compile", QUICKSTART, "--out", str(tmp_path))
    assert again.out.count("unchanged") == 2
    assert stamps == [path.stat().st_mtime_ns for path in tmp_path.rglob("*.py")]


def test_check_prints_a_diff_exits_1_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    options = ("--backend", "torch", "--out", str(tmp_path))
    missing = run("compile", QUICKSTART, *options, "--check")
    assert missing.code == 1
    assert "+class Quickstart(nn.Module):" in missing.out
    assert not list(tmp_path.rglob("*"))

    run("compile", QUICKSTART, *options)
    path = tmp_path / "torch" / "quickstart.py"
    edited = path.read_text().replace("self.w1[:, :k0]", "self.w1[:, :15]")
    path.write_text(edited)
    changed = run("compile", QUICKSTART, *options, "--check")
    assert changed.code == 1
    assert "-        x1_1 = self.update1_1([x0], w=self.w1[:, :15])" in changed.out
    assert path.read_text() == edited

    run("compile", QUICKSTART, *options)
    assert run("compile", QUICKSTART, *options, "--check").code == 0


def test_no_file_is_written_where_one_spec_of_several_is_bad(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text((SPECS / "quickstart.yaml").read_text().replace("layers: 4", "layers: four"))
    out = tmp_path / "out"
    ran = run("compile", QUICKSTART, str(bad), "--out", str(out))
    assert ran.code == 2
    assert "bad.yaml:10:14: error[wrong-value]: blocks.0.layers" in ran.err
    assert not out.exists()


def test_an_expectation_that_fails_stops_the_compiler(run: Run, tmp_path: Path) -> None:
    ran = run("compile", QUICKSTART, "--out", str(tmp_path), "--set", "expect.flops=6.02M")
    assert ran.code == 1
    assert "expected flops 6.02M, but the network has 6,009,920 (6.01M)" in ran.err
    assert "     |              ^" in ran.err
    assert not list(tmp_path.iterdir())


def test_two_specs_of_one_name_are_refused(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text((SPECS / "quickstart.yaml").read_text())
    out = tmp_path / "out"
    ran = run("compile", QUICKSTART, str(copy), "--out", str(out))
    assert ran.code == 2
    assert "both called quickstart" in ran.err
    assert not out.exists()


def test_a_failed_write_keeps_the_old_file(run: Run, tmp_path: Path, monkeypatch) -> None:
    options = ("--backend", "torch", "--out", str(tmp_path))
    run("compile", QUICKSTART, *options)
    path = tmp_path / "torch" / "quickstart.py"
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    ran = run("compile", QUICKSTART, *options, "--set", "blocks.*.filters=8", "--set", "expect={}")
    assert ran.code == 2
    assert "No space left on device" in ran.err
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["quickstart.py"]


def test_the_header_has_the_relative_path_and_the_overrides(run: Run, tmp_path: Path) -> None:
    hostile = 'expect={} # """ \\'
    options = ("--backend", "torch", "--out", str(tmp_path), "--set", hostile)
    assert run("compile", str(SPECS / "quickstart.yaml"), *options).code == 0
    source = (tmp_path / "torch" / "quickstart.py").read_text()
    assert "spec:       specs/quickstart.yaml" in source
    assert str(ROOT) not in source
    docstring = compile(source, "quickstart", "exec").co_consts[0]
    assert f"--set '{hostile}'" in docstring


def test_a_place_that_can_not_be_written_stops_every_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "torch" / "quickstart.py").mkdir(parents=True)
    ran = run("compile", QUICKSTART, "--out", str(tmp_path))
    assert ran.code == 2
    assert "it is a directory" in ran.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_all_needs_no_names_and_names_exclude_all(run: Run) -> None:
    assert run("compile").code == 2
    assert run("compile", QUICKSTART, "--all").code == 2


@pytest.mark.parametrize("name", ["quickstart", "cliquenet_s3"])
def test_summary_json_of_one_spec_is_an_object(run: Run, name: str) -> None:
    found = json.loads(run("summary", f"specs/{name}.yaml", "--json").out)
    assert found["name"] == name
    assert found["flops"] == 2 * found["macs"]
    assert [block["block"] for block in found["blocks"]] == [
        index + 1 for index in range(len(found["blocks"]))
    ]
    assert sum(part["parameters"] for part in found["sections"]) == found["parameters"]
    assert sum(part["macs"] for part in found["sections"]) == found["macs"]
    for block in found["blocks"]:
        assert sum(step["macs"] for step in block["steps"]) == block["macs"]


def test_summary_json_of_several_specs_is_a_list(run: Run) -> None:
    ran = run("summary", QUICKSTART, "specs/cliquenet_s3.yaml", "--json")
    assert [(each["name"], each["parameters"]) for each in json.loads(ran.out)] == [
        ("quickstart", 72_994),
        ("cliquenet_s3", 14_383_024),
    ]


def test_summary_tables_name_every_section_and_update(run: Run) -> None:
    ran = run("summary", QUICKSTART, "--steps")
    for text in ("stem", "transition1", "readout2", "classifier", "72,994", "block2 X4@2"):
        assert text in ran.out


def test_summary_memory_json_has_every_section_update_and_level(run: Run) -> None:
    words = ("summary", QUICKSTART, "--json", "-O", "2")
    plain = json.loads(run(*words).out)
    found = json.loads(run(*words, "--memory", "--batch", "8", "--dtype", "bfloat16").out)
    memory = found.pop("memory")
    assert found == plain  # the other figures are for one image in float32, as ever
    assert (memory["level"], memory["batch"], memory["dtype"]) == (2, 8, "bfloat16")
    assert [each["level"] for each in memory["levels"]] == list(LEVELS)
    stored, per_image, peak = (
        [each[key] for each in memory["levels"]]
        for key in ("stored_bytes", "stored_bytes_per_image", "peak_bytes")
    )
    assert stored == sorted(stored, reverse=True)
    assert [each // 8 for each in stored] == per_image
    assert all(most > least for most, least in zip(peak, stored, strict=True))
    assert stored[2] == memory["stored_bytes"]
    forward, backward = memory["moved_forward_bytes"], memory["moved_backward_bytes"]
    assert (forward, backward) == tuple(
        memory["levels"][2][key] for key in ("moved_forward_bytes", "moved_backward_bytes")
    )
    assert backward > forward > stored[2]
    assert stored[2] == sum(part["stored_bytes"] for part in memory["sections"])
    assert [(s["section"], s["stage"], s["layer"]) for s in memory["steps"]] == [
        (f"block{block['block']}", step["stage"], step["layer"])
        for block in plain["blocks"]
        for step in block["steps"]
    ]


def test_summary_stores_less_at_a_higher_level(run: Run) -> None:
    stored = [
        json.loads(run("summary", QUICKSTART, "--json", "-O", str(level)).out)["stored_bytes"]
        for level in LEVELS
    ]
    assert stored == sorted(set(stored), reverse=True)


def test_summary_memory_tables(run: Run) -> None:
    one = run("summary", QUICKSTART, "--memory", "--batch", "32", "-O", "2").out
    for text in ("quickstart at -O2, 32 images in float32", "transition1", "-O0", "peak of a step"):
        assert text in one
    assert "X4@2" not in one
    assert run("summary", QUICKSTART, "--memory", "--steps").out.count("X4@2") == 2  # blocks
    # Several: a row for each and level, and no sections.
    several = run("summary", QUICKSTART, "specs/cliquenet_s0.yaml", "--memory").out
    rows = [line.split()[:2] for line in several.splitlines() if "-O" in line]
    names = ("quickstart", "cliquenet_s0")
    assert rows == [[name, f"-O{level}"] for name in names for level in LEVELS]
    assert "transition1" not in several


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch", "8"), "error[usage]: --batch and --dtype are for --memory"),
        (("--dtype", "float64", "--steps"), "error[usage]: --batch and --dtype are for --memory"),
        (("--memory", "--dtype", "int8"), "error[usage]: there is no dtype 'int8'"),
    ],
)
def test_summary_refuses_what_memory_does_not_mean(
    run: Run, words: tuple[str, ...], message: str
) -> None:
    ran = run("summary", QUICKSTART, *words)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_overrides_reach_every_command(run: Run) -> None:
    change = ("--set", "blocks.*.layers=5", "--set", "expect={}")
    assert "X5@2" in run("steps", QUICKSTART, *change).out
    assert "x5_2" in run("ir", QUICKSTART, *change).out
    assert json.loads(run("summary", QUICKSTART, "--json", *change).out)["blocks"][0]["layers"] == 5
    assert run("check", QUICKSTART, *change).code == 0


TABLE_1 = """\
 X0                             W0_1                             X1@1        Stage-I
 {X0, X1@1}                     {W0_2, W1_2}                     X2@1
 {X0, X1@1, X2@1}               {W0_3, W1_3, W2_3}               X3@1
 {X0, X1@1, X2@1, X3@1}         {W0_4, W1_4, W2_4, W3_4}         X4@1
 {X0, X1@1, X2@1, X3@1, X4@1}   {W0_5, W1_5, W2_5, W3_5, W4_5}   X5@1

 {X2@1, X3@1, X4@1, X5@1}       {W2_1, W3_1, W4_1, W5_1}         X1@2        Stage-II
 {X3@1, X4@1, X5@1, X1@2}       {W3_2, W4_2, W5_2, W1_2}         X2@2
 {X4@1, X5@1, X1@2, X2@2}       {W4_3, W5_3, W1_3, W2_3}         X3@2
 {X5@1, X1@2, X2@2, X3@2}       {W5_4, W1_4, W2_4, W3_4}         X4@2
 {X1@2, X2@2, X3@2, X4@2}       {W1_5, W2_5, W3_5, W4_5}         X5@2
"""


def test_steps_prints_table_1_and_the_readme_shows_it(run: Run) -> None:
    printed = run("steps", "specs/cliquenet_k64_t15.yaml", "--block", "1").out
    lines = "\n".join(line.rstrip() for line in printed.splitlines())
    assert TABLE_1 in lines
    assert TABLE_1 in (ROOT / "README.md").read_text()


def test_steps_json_lists_reads_in_the_order_of_concatenation(run: Run) -> None:
    rows = json.loads(run("steps", QUICKSTART, "--block", "1", "--json").out)
    assert rows[1] == {
        "block": 1,
        "stage": 1,
        "layer": 2,
        "reads": ["X0", "X1@1"],
        "weights": ["W0_2", "W1_2"],
        "writes": "X2@1",
    }
    assert rows[5]["reads"] == ["X1@2", "X3@1", "X4@1"]
    assert rows[5]["weights"] == ["W1_2", "W3_2", "W4_2"]


def test_ir_json_is_node_link_data_that_loads_back_equal(run: Run) -> None:
    import cliquegraph
    from cliquegraph.compiler import Compilation
    from cliquegraph.ir.serialize import from_json

    data = json.loads(run("ir", QUICKSTART, "--format", "json").out)
    assert from_json(data) == Compilation(cliquegraph.load(ROOT / QUICKSTART)).graph
    assert run("ir", QUICKSTART, "--format", "xml").code == 2


@pytest.mark.parametrize(
    ("options", "ops"),
    [
        ("-O0", "batch_norm"),
        ("-O1", "batch_norm moments normalize"),
        ("-O2", "batch_norm moments normalize"),
        ("--inference", "affine"),
        ("", "batch_norm"),
    ],
)
def test_ir_is_at_the_level_that_is_asked_for(run: Run, options: str, ops: str) -> None:
    printed = run("ir", QUICKSTART, *options.split()).out
    found = [
        op for op in ("affine", "batch_norm", "moments", "normalize") if f" = {op}(" in printed
    ]
    assert " ".join(found) == ops
    assert ("recompute\n" in printed) == (options == "-O2")


def test_a_folded_network_is_a_file_beside_the_other(run: Run, tmp_path: Path) -> None:
    options = ("--backend", "torch", "--out", str(tmp_path))
    assert run("compile", QUICKSTART, *options).code == 0
    assert run("compile", QUICKSTART, *options, "--inference").code == 0
    network, folded = sorted((tmp_path / "torch").iterdir())
    assert (network.name, folded.name) == ("quickstart.py", "quickstart_inference.py")
    head = folded.read_text().split('"""')[1]
    assert "For evaluation only: takes folded tensors (cliquegraph.fold)." in head
    assert "quickstart.yaml --backend torch --inference" in head
    assert "-O0" in network.read_text().split('"""')[1]


def test_a_header_says_the_level(run: Run, tmp_path: Path) -> None:
    for level in LEVELS:
        run("compile", QUICKSTART, "--backend", "flax", "--out", str(tmp_path), f"-O{level}")
        source = (tmp_path / "flax" / "quickstart.py").read_text()
        assert f"quickstart.yaml --backend flax -O{level}\n" in source


def test_check_prints_the_proof_and_fails_with_expect(run: Run) -> None:
    ran = run("check", QUICKSTART, "--json")
    data = json.loads(ran.out)
    assert ran.code == 0
    assert data["ok"]
    assert {claim["rule"] for claim in data["sharing"]} >= {"versions read", "connected"}
    failed = run("check", QUICKSTART, "--json", "--set", "expect.parameters=1")
    assert failed.code == 1
    assert not json.loads(failed.out)["ok"]
    (said,) = json.loads(failed.out)["diagnostics"]
    assert (said["code"], said["message"][:33]) == ("expect", "expected parameters 1, but the ne")


def test_prove_compares_the_op_graph_and_prints_the_bound(run: Run) -> None:
    ran = run("prove", QUICKSTART, "--backend", "none", "--json")
    assert ran.code == 0
    (proved,) = json.loads(ran.out)
    lowered, *passes = proved["graphs"]
    assert lowered["passes"] == []
    assert passes[0]["passes"] == ["share common"]
    assert passes[-1]["passes"][-1] == "fold"
    assert lowered["images"] == [4, 4]
    assert lowered["values"] == 46
    assert lowered["statistics"] == 42
    assert 0 < lowered["bound"] < 1e-12
    shown = run("prove", QUICKSTART, "--backend", "none").out
    assert "the declaration and its op graph are equal, on images of 4×4" in shown


def test_prove_refuses_a_graph_that_differs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cliquegraph.lowering.lower.BatchNorm", partial(BatchNorm, momentum=0.2))
    ran = run("prove", QUICKSTART, "--backend", "none", "--json")
    assert ran.code == 1
    (said,) = json.loads(ran.out)["diagnostics"]
    assert said["message"].startswith("as lowered: transition1, line ")
    assert said["message"].endswith(": transition1.norm.mean does not move as declared")


BAD = ["tests/invalid/misspelt_key.yaml", "tests/invalid/unknown_version.yaml"]


def test_check_goes_on_after_a_bad_spec(run: Run) -> None:
    ran = run("check", BAD[0], QUICKSTART, BAD[1])
    assert ran.code == 2
    assert "versions read" in ran.out
    places = [line.split(":")[0] for line in ran.err.splitlines() if "error[" in line]
    assert places == BAD
    ran = run("check", BAD[0], QUICKSTART, BAD[1], "--json")
    assert ran.code == 2
    found = json.loads(ran.out)
    assert [(each["spec"], each["ok"]) for each in found] == [
        (BAD[0], False),
        (QUICKSTART, True),
        (BAD[1], False),
    ]
    assert [each["diagnostics"][0]["file"] for each in found[::2]] == BAD
    assert found[1]["sharing"]


def test_check_goes_on_after_a_defect(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(steps: StepGraph) -> Proof:
        if steps.network.name == "quickstart":
            raise VerificationError("a value is read before it is written")
        return prove_sharing(steps)

    monkeypatch.setattr(compiler, "prove_sharing", broken)
    other = "specs/cliquenet_k36_t12.yaml"
    ran = run("check", QUICKSTART, other)
    assert ran.code == 1
    assert "versions read" in ran.out
    assert ran.err == "error[verification]: a value is read before it is written\n"
    ran = run("check", QUICKSTART, other, "--json")
    assert (ran.code, ran.err) == (1, "")
    first, second = json.loads(ran.out)
    assert (first["spec"], first["ok"]) == (QUICKSTART, False)
    assert [each["code"] for each in first["diagnostics"]] == ["verification"]
    assert (second["spec"], second["ok"]) == (other, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "--json", QUICKSTART, "--nowhere"], "No such option: --nowhere"),
        (["check", "--json"], "Missing argument 'SPEC...'"),
        (["verify", "--json", QUICKSTART, "-O", "two"], "Invalid value for '-O'"),
    ],
    ids=str,
)
def test_misuse_is_json_too(run: Run, words: list[str], message: str) -> None:
    ran = run(*words)
    assert ran.code == 2
    (said,) = json.loads(ran.out)["diagnostics"]
    assert said["code"] == "usage"
    assert message in said["message"]
    people = run(*(word for word in words if word != "--json"))
    assert people.code == 2
    assert not people.out
    assert "Usage:" in people.err


def test_diff_tells_equal_from_different(run: Run) -> None:
    same = run("diff", QUICKSTART, QUICKSTART)
    assert same.code == 0
    assert "the steps are the same" in same.out
    ran = run("diff", "specs/cliquenet_k36_t15_i_ii.yaml", "specs/cliquenet_k36_t15_ii_ii.yaml")
    assert ran.code == 1
    assert "block 1, feature" in ran.out
    assert "X0 X1@1 X2@1 X3@1 X4@1 X5@1" in ran.out


def test_diff_sees_what_steps_do_not_show(run: Run) -> None:
    ran = run("diff", "specs/cliquenet_s3.yaml", "specs/cliquenet_s3_star.yaml", "--json")
    data = json.loads(ran.out)
    assert ran.code == 1
    assert data["steps"] == []
    assert (
        data["figures"]["left"]["parameters"] - data["figures"]["right"]["parameters"] == 1_212_120
    )


def test_schema_is_the_file_that_specs_name(run: Run, tmp_path: Path) -> None:
    assert run("schema").out == (SPECS / "cliquegraph.schema.json").read_text()
    run("schema", "-o", str(tmp_path / "s.json"))
    assert (tmp_path / "s.json").read_text() == (SPECS / "cliquegraph.schema.json").read_text()


def test_backends_lists_both(run: Run) -> None:
    names = [row["name"] for row in json.loads(run("backends", "--json").out)]
    assert names == ["flax", "torch"]


def test_a_missing_framework_is_named_with_its_package(run: Run, hide: Hide) -> None:
    hide("torch")
    assert "pip install torch" in run("backends").out
    ran = run("verify", QUICKSTART, "--backends", "torch")
    assert ran.code == 2
    assert "backend 'torch' lacks its framework: pip install torch" in ran.err
    hide("torch", "jax", "flax")
    ran = run("verify", QUICKSTART)
    assert ran.code == 2
    ways = "pip install jax flax (flax), or pip install torch (torch)"
    assert f"no backend can run: {ways}" in ran.err


def test_verify_json(run: Run) -> None:
    ran = run("verify", QUICKSTART, "--backends", "torch", "--json")
    data = json.loads(ran.out)
    assert ran.code == 0
    assert data["ok"]
    assert data["backends"] == ["torch"]
    assert all(error <= 1e-10 for error in data["max_error"].values())


def test_verify_takes_a_level_or_the_folded_network(run: Run) -> None:
    for option in ("-O0", "-O2", "--inference"):
        ran = run("verify", QUICKSTART, "--backends", "torch", "--json", option)
        data = json.loads(ran.out)
        assert ran.code == 0
        assert ("gradients" in data["max_error"]) == (option == "-O2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compile", "specs/none.yaml"), "specs/none.yaml: error[unreadable-file]: no such file"),
        (
            ("compile", QUICKSTART, "--backend", "caffe"),
            "no backend 'caffe'; installed: flax, torch",
        ),
        (("compile", QUICKSTART, "-O", "7"), "no level -O7"),
        (("ir", QUICKSTART, "-O1", "--inference"), "--inference replaces the level"),
        (("steps", QUICKSTART, "--block", "3"), "blocks 1 to 2, not 3"),
        (
            ("compile", QUICKSTART, "--set", "class_name=Tensor"),
            "--set:1:12: error[reserved-name]: the class Tensor",
        ),
        (("verify", QUICKSTART, "--backends", "torch,caffe"), "no backend 'caffe'"),
        (("verify", QUICKSTART, "--backends", ","), "name at least one backend"),
        (("compile", QUICKSTART, "--set", f"{'a.' * 3000}a=1"), "a path has at most"),
        (("compile", QUICKSTART, "--set", "class_name=ValueError"), "would shadow a name"),
    ],
)
def test_bad_usage_is_a_message_and_exit_2(run: Run, words: tuple[str, ...], message: str) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_every_command_has_help_with_an_example(run: Run) -> None:
    for command in cli.app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        ran = run(name, "--help")
        assert ran.code == 0
        assert f"cliquegraph {name}" in ran.out


def test_completion_offers_backends() -> None:
    assert complete_backend("t") == ["torch"]
    assert complete_backend("") == ["flax", "torch", "all"]


def cliquegraph(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "cliquegraph", *words],
        cwd=ROOT,
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_a_pipe_gets_no_colour_and_whole_cells() -> None:
    ran = cliquegraph("check", "specs/cliquenet_s3.yaml", FORCE_COLOR="", TERM="xterm-256color")
    assert b"\x1b[" not in ran.stdout
    assert "14,383,024" in ran.stdout.decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [["steps", QUICKSTART, "--json"], ["check", QUICKSTART]])
def test_output_that_can_not_be_written_is_a_message(command: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "cliquegraph", *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ran.returncode == 2
    assert b"No space left on device" in ran.stderr
    assert b"Traceback" not in ran.stderr


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell closes it")
def test_output_may_be_closed() -> None:
    program = f"{shlex.join([sys.executable, '-m', 'cliquegraph', 'check', QUICKSTART])} >&-"
    ran = subprocess.run(["/bin/sh", "-c", program], cwd=ROOT, capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_names_with_rich_markup_are_printed_as_they_are(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a[red].yaml"
    path.write_text((SPECS / "quickstart.yaml").read_text())
    assert "a[red].yaml" in run("diff", str(path), QUICKSTART).out


def test_a_terminal_that_is_ascii_only_gets_no_traceback() -> None:
    ran = cliquegraph("check", QUICKSTART, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("seed", ["0", "1"])
def test_bytes_do_not_depend_on_the_hash_seed(seed: str, tmp_path: Path) -> None:
    options = ("--backend", "torch", "--out", str(tmp_path))
    assert cliquegraph("compile", QUICKSTART, *options, PYTHONHASHSEED=seed).returncode == 0
    written = (tmp_path / "torch" / "quickstart.py").read_bytes()
    assert written == (ROOT / "generated" / "torch" / "quickstart.py").read_bytes()


def test_levels_start_at_0_and_unknown_ones_are_named() -> None:
    from cliquegraph.passes.pipeline import passes_of

    assert 0 in LEVELS
    with pytest.raises(UsageError, match="-O0"):
        passes_of(max(LEVELS) + 1)
