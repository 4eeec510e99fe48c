"""A spec that would take all time or memory is refused before it takes much."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cliquegraph.spec.schema import MAX_LAYERS

HEAD = "cliquegraph: 1\nname: example\ninput: {channels: 3, height: 32, width: 32}\n"
SPEC = HEAD + "stem: {filters: 64}\nblocks: [{layers: 4, filters: 8}]\nclassifier: {classes: 10}\n"

ALONE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))
from cliquegraph import cli
try:
    cli.main()
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(peak.split()[1])
"""
"""The command line in 1.5 GB of address space; ends with its peak memory in kB."""


def refused(path: str, folder: Path) -> str:
    """Run ``check`` on a file; return its message. It may take neither long nor much memory."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, "check", path],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert int(done.stdout) < 500_000
    assert len(done.stderr) < 50_000
    return done.stderr


def bomb() -> str:
    """Nine times nine times nine, thirty times."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 30):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


def with_value(old: str, new: str) -> Callable[[], str]:
    def text() -> str:
        assert old in SPEC
        return SPEC.replace(old, new)

    return text


TEXTS: dict[str, tuple[Callable[[], str], str]] = {
    "alias_bomb": (bomb, "error[anchor]"),
    "recursive_alias": (lambda: "&a [*a, *a]", "error[anchor]"),
    "recursive_merge": (lambda: SPEC + "x: &x {<<: *x}\n", "error[anchor]"),
    "many_aliases": (lambda: "- &a x\n" + "- *a\n" * 9_000, "error[more-errors]"),
    "deep_list": (lambda: "[" * 200_000, "MAX_DEPTH in cliquegraph.spec.document"),
    "deep_section": (lambda: "{a: " * 50_000, "MAX_DEPTH in cliquegraph.spec.document"),
    "deep_lines": (
        lambda: "".join(" " * depth + "a:\n" for depth in range(700)),
        "MAX_DEPTH in cliquegraph.spec.document",
    ),
    "deep_question": (lambda: "? " * 100_000, "error[key-not-text]"),
    "layers": (with_value("layers: 4", f"layers: {10**9}"), "MAX_LAYERS in cliquegraph"),
    "filters": (with_value("filters: 8", f"filters: {10**9}"), "MAX_CHANNELS in cliquegraph"),
    "stages": (with_value("8}", f"8, stages: {10**9}}}"), "MAX_STAGES in cliquegraph"),
    "classes": (with_value("classes: 10", f"classes: {10**9}"), "MAX_CLASSES in cliquegraph"),
    "pixels": (with_value("height: 32", f"height: {10**9}"), "MAX_PIXELS in cliquegraph"),
    "kernel": (with_value("8}", f"8, kernel: {10**9 + 1}}}"), "MAX_KERNEL in cliquegraph"),
    "reads": (
        with_value("layers: 4", f"stages: 64, layers: {MAX_LAYERS}"),
        "MAX_READS in cliquegraph",
    ),
    "epochs": (
        lambda: f"{SPEC}training: {{recipe: cifar, epochs: {10**20}, batch_size: {10**20}}}\n",
        "MAX_EPOCHS in cliquegraph",
    ),
    "integer": (with_value("64", "1" + "0" * 5_000), "MAX_DIGITS in cliquegraph.spec.document"),
    "hexadecimal": (with_value("64", "0x" + "f" * 200_000), "MAX_DIGITS in cliquegraph"),
    "exponent": (with_value("64", "1e" + "9" * 200_000), "expected a finite number"),
    "nan": (with_value("64", ".nan"), "expected a finite number, found .nan"),
    "nan_of_a_long_key": (
        lambda: "? " + "a" * 250_000 + "\n: .nan\n",
        f"{'a' * 40}…: expected a finite number, found .nan",
    ),
    "infinite": (with_value("64", "-.inf"), "expected a finite number, found -.inf"),
    "long_text": (with_value("example", "a" * 250_000), "at most 100 of them"),
    "long_key": (lambda: "? " + "a" * 250_000 + "\n: 1\n", "error[unknown-key]"),
    "megabyte": (with_value("example", "a" * (1 << 20)), "MAX_CHARACTERS in cliquegraph"),
    "many_keys": (lambda: "".join(f"k{i}: 1\n" for i in range(9_000)), "error[more-errors]"),
    "many_values": (lambda: "[" + "0," * 20_000, "MAX_VALUES in cliquegraph"),
    "many_defaults": (
        lambda: (
            HEAD
            + f"block_defaults: {{{', '.join(f'k{i}: 1' for i in range(4_000))}}}\n"
            + f"blocks: [{', '.join(['{}'] * 64)}]\n"
        ),
        "MAX_VALUES in cliquegraph",
    ),
    "many_blocks": (lambda: HEAD + f"blocks: [{'{},' * 4_000}]", "MAX_BLOCKS in cliquegraph"),
    "long_order": (
        with_value("8}", f"8, order: [{', '.join(map(str, range(9_000)))}]}}"),
        "error[impossible-schedule]",
    ),
    "lines": (lambda: "\n" * 260_000, "the spec is empty"),
    "folded": (lambda: "a: >\n" + " b\n" * 80_000, "error[unknown-key]"),
    "version": (lambda: f"%YAML {'1' * 250_000}.1\n---\na", "error[syntax]"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_refused(name: str, tmp_path: Path) -> None:
    text, said = TEXTS[name]
    (tmp_path / "spec.yaml").write_text(text())
    message = refused("spec.yaml", tmp_path)
    assert said in message
    assert message.startswith("spec.yaml")


def a_large_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 20)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (a_large_file, "larger than the 262,144 bytes a spec may have"),
        (os.mkfifo, "but this is not a regular file"),
        (Path.mkdir, "but this is a directory"),
        (a_device, "but this is not a regular file"),
        (lambda path: path.symlink_to(path), "can't be read: Too many levels of symbolic links"),
        (lambda path: None, "no such file"),
    ],
    ids=["large", "pipe", "folder", "device", "link_to_itself", "none"],
)
def test_what_is_no_file_of_a_spec_is_refused(
    make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "spec.yaml")
    assert said in refused("spec.yaml", tmp_path)
