"""The figures of a network, for people and for pandas."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from cliquegraph.compiler import Compilation
from cliquegraph.diagnostics.errors import UsageError
from cliquegraph.passes.pipeline import DEFAULT_LEVEL, passes_of
from cliquegraph.plugins.memory import MemoryPlan, memory_model
from cliquegraph.spec.load import Declaration, load

if TYPE_CHECKING:
    from rich.table import Table

Row: TypeAlias = dict[str, Any]

_WIDTH = 200  # columns; a narrower console would fold the table


@dataclass(frozen=True, repr=False)
class Summary:
    """The figures of a network, for one image.

    It is shown as a table, in a notebook as an HTML table.

    Attributes:
        name: the network's name.
        rows: a row for each section, first to last: ``section``, ``kind`` (of a block),
            ``output`` (such as ``36x32x32``, C × H × W), ``parameters``, ``macs``, ``flops``,
            ``activations`` (elements), ``saved_bytes`` (for backward), ``depth`` (of a block, in
            updates); ``pandas.DataFrame(summary.rows)`` is a table of them.
        total: the same keys for the whole network, with its name as ``section``.
        executed: the MACs that a model executes at each -O level; passes save some of the declared
            ``macs``.
        table: the table, for a console of rich.
    """

    name: str
    rows: list[Row]
    total: Row
    executed: dict[int, int]
    table: Table = field(compare=False)

    def text(self) -> str:
        """Return the table as text."""
        from rich.console import Console

        console = Console(file=io.StringIO(), width=_WIDTH, color_system=None)
        with console.capture() as capture:
            console.print(self.table)
        return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")

    __repr__ = text

    def _repr_html_(self) -> str:
        from cliquegraph.tables.html import to_html

        return to_html(self.table)


def summary(network: Declaration, *, level: int = DEFAULT_LEVEL) -> Summary:
    """Return the parameters, MACs, FLOPs, activations, memory and depth of a network.

    Args:
        network: whatever ``load`` takes: a network, a path, a dictionary.
        level: the -O level of the memory saved for backward.

    Raises:
        SpecError: an invalid network.
        UsageError: there is no such level.

    >>> import cliquegraph
    >>> summary = cliquegraph.summary("specs/quickstart.yaml")
    >>> [row["section"] for row in summary.rows]
    ['stem', 'block1', 'transition1', 'block2', 'readout1', 'readout2', 'classifier']
    >>> summary.total["parameters"], summary.total["macs"]
    (72994, 3004960)
    >>> summary.executed[1] < summary.executed[0] == summary.total["macs"]
    True
    """
    from cliquegraph.tables.summary import outputs, summary_json, summary_table

    passes_of(level)  # raises an error if there is no such level
    compilation = Compilation(load(network), level)
    data = summary_json(compilation)
    blocks = {f"block{block['block']}": block for block in data["blocks"]}
    shapes = {str(section): shape for section, shape in outputs(compilation).items()}
    rows = [
        _row(each["section"], each, blocks.get(each["section"]), shapes[each["section"]])
        for each in data["sections"]
    ]
    total = _row(data["name"], data, data, str(compilation.graph.logits.type))
    executed = compilation.executed_by_level
    return Summary(data["name"], rows, total, executed, summary_table(compilation))


def _row(section: str, figures: Row, block: Row | None, output: str) -> Row:
    return {
        "section": section,
        "kind": block.get("kind") if block else None,
        "output": output,
        "parameters": figures["parameters"],
        "macs": figures["macs"],
        "flops": figures["flops"],
        "activations": figures["activations"],
        "saved_bytes": figures["stored_bytes"],
        "depth": block["depth"] if block else None,
    }


def memory_plan(
    network: Declaration,
    *,
    level: int = DEFAULT_LEVEL,
    batch: int = 1,
    dtype: str = "float32",
    backend: str | None = None,
) -> MemoryPlan:
    """Predict the memory of a training step, in bytes, without running it.

    Args:
        network: whatever ``load`` takes.
        level: the -O level.
        batch: images in the batch.
        dtype: of the computation: ``float32``, ``float64``, ``bfloat16`` or ``float16``.
        backend: the backend whose models are predicted; default: the first that can.

    Raises:
        SpecError: an invalid network.
        UsageError: there is no such level or dtype, or the batch is empty.
        BackendError: the backend does not predict memory.

    >>> import cliquegraph
    >>> literal, recomputed = (
    ...     cliquegraph.memory_plan("specs/quickstart.yaml", level=level, batch=32)
    ...     for level in (0, 2)
    ... )
    >>> recomputed.stored < literal.stored < literal.peak
    True
    """
    if type(batch) is not int or batch < 1:
        raise UsageError(f"a batch is 1 image or more, not {batch!r}")
    passes_of(level)  # raises an error if there is no such level
    graph = Compilation(load(network), level).graph
    return memory_model(backend).memory(graph, batch=batch, dtype=dtype)
