"""What is changed, and which tests take part."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = (
    *("cliquegraph/steps", "cliquegraph/ir", "cliquegraph/passes", "cliquegraph/analysis"),
    *("cliquegraph/lowering", "cliquegraph/emit"),
    *(f"cliquegraph/weights/{n}.py" for n in ("describe", "initial", "layout", "official")),
    *(f"cliquegraph/weights/{n}.py" for n in ("sample", "source", "tensors", "transfer")),
    *(f"backends/cliquegraph_torch/{n}.py" for n in ("eager", "memory", "peak", "precision")),
    *("backends/cliquegraph_torch/spell.py", "backends/cliquegraph_torch/naming.py"),
    *("backends/cliquegraph_flax/spell.py", "backends/cliquegraph_flax/naming.py"),
)
TESTS = (
    *("steps", "ir", "passes", "analysis", "weights", "museum", "emit/test_outline.py"),
    *("lowering", "semantics", "backends/test_torch_memory.py"),
    *("test_compiler.py", "spec/test_shipped.py", "test_figures.py", "diagnostics"),
    *("emit/test_digests.py", "emit/test_source.py", "emit/test_code.py", "cli/test_cli.py"),
)
LIBRARIES = ("torch", "jax", "flax.nnx", "optax", "safetensors.numpy", "rich.table", "typer")
HEAVY = (  # imported once, and not by every process
    *("cliquegraph.cli", "cliquegraph.proof.verify", "cliquegraph.tables.summary"),
    *("cliquegraph_torch.backend", "cliquegraph_torch.execute", "cliquegraph_torch.pickles"),
    *("cliquegraph_flax.backend", "cliquegraph_flax.naming", "cliquegraph_flax.live"),
)
PYTEST = (
    *("-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore"),
    "--tb=native",  # the others read sources, which takes longer than a test
    *("-k", "not flax and not Flax"),
)


def core() -> list[Path]:
    paths = map(Path, CORE)
    return [f for path in paths for f in ([path] if path.suffix else sorted(path.glob("*.py")))]


def module_of(file: Path) -> str:
    parts = file.with_suffix("").parts
    parts = parts[1:] if parts[0] == "backends" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
