"""What ``fuzz`` prints."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from cliquegraph.fuzz.fuzz import Fuzzing
from cliquegraph.tables.table import Json, table


def fuzzing_json(found: Fuzzing) -> Json:
    """Return the result of fuzzing."""
    return {
        "seed": found.seed,
        "start": found.start,
        "count": found.count,
        "backends": list(found.backends),
        "options": [target.option for target in found.targets],
        "ok": found.ok,
        "failures": [
            {
                "index": each.index,
                "kind": each.failure.kind,
                "detail": each.failure.detail,
                "file": str(each.path),
                "command": each.failure.command(each.path),
            }
            for each in found.found
        ],
        "unjudged": [
            {"index": index, "option": target.option, "detail": detail}
            for index, target, detail in found.unjudged
        ],
        "coverage": {f"{key}: {word}": count for (key, word), count in found.coverage.items()},
    }


def coverage_table(found: Fuzzing) -> Table:
    """Return the number of specs with each key and value."""
    result = table("what was drawn", "key", "value", "specs", right=("specs",))
    before = None
    for (key, word), count in found.coverage.items():
        result.add_row("" if key == before else key, word, f"{count:,}")
        before = key
    return result


def fuzzing_lines(found: Fuzzing) -> Iterable[str]:
    """Return a summary line, and one for each failure with the command that reproduces it."""
    drawn = sum(count > 0 for count in found.coverage.values())
    yield (
        f"{_specs(found.count)} of seed {found.seed}, from {found.start}: "
        f"{', '.join(found.backends)} at {' '.join(target.option for target in found.targets)}; "
        f"{drawn} of {len(found.coverage)} keys and values drawn; {len(found.found)} failed"
    )
    if found.unjudged:
        specs = _specs(len({index for index, _, _ in found.unjudged}))
        yield f"  training is inconclusive for {specs}: rounding alone changes it as much"
    for each in found.found:
        yield f"  {each.failure.kind}: {each.failure.command(each.path)}"


def _specs(count: int) -> str:
    return "1 spec" if count == 1 else f"{count:,} specs"
