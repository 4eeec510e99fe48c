"""``docs/errors.md``: the codes of errors, from the table in ``codes.py``."""

from __future__ import annotations

from cliquegraph.diagnostics.codes import Code

_HEAD = """\
# Errors

Every error has a code, which stays when its message is reworded: `spec.yaml:6:17: \
error[unknown-key]: …`. This page is what `cliquegraph errors` prints.

With `--json` a command that fails prints an object on standard output in place of the message \
on standard error; places count from 1 and are null where there is none:

```json
{"diagnostics": [{"file": "spec.yaml", "line": 6, "column": 17, "code": "unknown-key", \
"message": "blocks.0: unknown key 'filtres' in a clique block", \
"hint": "did you mean 'filters'?"}]}
```

`check` of several specs prints a list of results; those of specs with faults have `diagnostics`. \
A figure of `expect` that does not hold is among them.

The faults of a file are reported together, in its order, up to 50 of them. Some hide others: \
after a `syntax` error nothing more is read, an unknown version or a bad `--set` is reported \
beside faults of the text alone. A rule that joins keys of a block is checked where each value of \
the block is right by itself, a rule of the whole spec where every section is, and sizes are \
computed when everything else holds. In Python they are `SpecError.diagnostics`. \
`expect`, `training` and `verification` end a command with exit code 1, the others with 2.

| code | stands for |
|---|---|
"""


def errors_page() -> str:
    """Return the page as Markdown."""
    return _HEAD + "".join(f"| `{code}` | {code.meaning} |\n" for code in Code)
