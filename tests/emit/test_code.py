"""Source text that breaks where formatters break it, and names that collide with nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cliquegraph.emit.code import WIDTH, Bracket, Code, Text, call, docstring, layout, listing
from cliquegraph.emit.names import Namespace, member_name, member_path, step_name
from cliquegraph.ir.types import Field, Init, Param, Part, Piece, Section, Slot, Tensor

NAMES = st.text("abcdefgh", min_size=1, max_size=30)


def codes() -> st.SearchStrategy[Code]:
    return st.recursive(
        NAMES.map(Text),
        lambda inner: st.builds(
            lambda head, items: Bracket(f"{head}(", tuple(items), ")"),
            NAMES,
            st.lists(inner, max_size=6),
        ),
        max_leaves=20,
    )


@given(codes(), st.integers(0, 4))
def test_a_layout_says_what_the_code_says(code: Code, depth: int) -> None:
    lines = layout(code, prefix="x = ", depth=depth)
    indent = "    " * depth
    assert all(line.startswith(indent) for line in lines)
    text = "\n".join(line[len(indent) :] for line in lines)
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(f"x = {code}"))


def test_what_fits_stays_on_one_line() -> None:
    assert layout(call("f", "a", listing("b", "c")), prefix="x = ") == ["x = f(a, [b, c])"]


def test_what_does_not_fit_goes_on_an_indented_line_and_then_one_item_a_line() -> None:
    name = "a" * 20
    assert layout(call("f", *[name] * 4), prefix="x" * 20 + " = ") == [
        "x" * 20 + " = f(",
        "    " + ", ".join([name] * 4),
        ")",
    ]
    lines = layout(call("f", *[name] * 5), prefix="x = ")
    assert lines == ["x = f(", *[f"    {name},"] * 5, ")"]


def test_a_long_docstring_is_wrapped_and_its_quotes_closed_on_a_line_of_their_own() -> None:
    short, long = docstring("word " * 5, 1), docstring("word " * 40, 1)
    assert short.startswith('    """word') and short.count("\n") == 0
    assert long.endswith('\n    """')
    assert all(len(line) <= WIDTH for line in long.splitlines())


def test_names_are_unique_and_hide_nothing() -> None:
    names = Namespace({"torch"})
    assert [names.unique("x") for _ in range(3)] == ["x", "x2", "x3"]
    assert names.unique("torch") == "torch2"
    assert names.unique("lambda") == "lambda2"
    assert names.unique("sum") == "sum2"


BLOCK = Section(Part.BLOCK, 2)


def test_names_of_members() -> None:
    assert member_name(Slot(BLOCK, "w", 3, shared=True)) == "w3"
    assert member_name(Slot(BLOCK, "w", 3, source=1, shared=True)) == "w1_to_3"
    assert member_name(Slot(BLOCK, "w.bias", 3, source=1, shared=True)) == "w1_to_3_bias"
    assert member_name(Slot(BLOCK, "v", 3, index=2, shared=True)) == "v3_2"
    assert member_name(Slot(BLOCK, "v", 3, index=2)) == "conv2"
    assert member_name(Slot(BLOCK, "norm1", 3, shared=True)) == "norm1_3"
    assert member_name(Slot(BLOCK, "mid_norm", 3, 2)) == "mid_norm"
    assert member_name(Slot(Section(Part.TRANSITION, 1), "attention.fc1")) == "attention_fc1"
    assert member_name(Slot(Section(Part.CLASSIFIER), "")) == "classifier"
    assert step_name(Slot(BLOCK, "norm", 3, 2)) == "update3_2"
    assert step_name(Slot(BLOCK, "norm", 3)) == "layer3"
    assert step_name(Slot(BLOCK, "w", 3, shared=True)) is None


def test_the_way_to_a_parameter() -> None:
    def path(slot: Slot, field: Field) -> str:
        tensor = Tensor(slot, field, (1,), Init.ZEROS)
        return ".".join(member_path(Param(slot, field, (Piece(tensor, 0, 1),))))

    assert path(Slot(BLOCK, "w", 3, shared=True), Field.WEIGHT) == "block2.w3"
    assert path(Slot(BLOCK, "norm", 3, 1), Field.SCALE) == "block2.update3_1.norm"
    assert path(Slot(Section(Part.STEM), "conv"), Field.WEIGHT) == "stem.conv"
    assert path(Slot(Section(Part.CLASSIFIER), ""), Field.BIAS) == "classifier"


def test_a_layout_is_what_ruff_makes_of_it(tmp_path: Path) -> None:
    code = call("function", *(call("g", *["name"] * 12) for _ in range(3)), listing(*"abc"))
    file = tmp_path / "code.py"
    file.write_text("\n".join(layout(code, prefix="x = ")) + "\n", encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", str(WIDTH)]
    done = subprocess.run([*ruff, "--check", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
