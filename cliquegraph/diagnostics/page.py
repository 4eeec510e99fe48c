"""``docs/errors.md``: the error codes, from the table in ``codes.py``."""

from __future__ import annotations

from cliquegraph.diagnostics.codes import Code

_HEAD = """\
# Errors

Every error has a code, which stays the same when its message is reworded: `spec.yaml:6:17: \
error[unknown-key]: …`. This page is what `cliquegraph errors` prints.

With `--json`, a command that fails prints an object to standard output instead of a message to \
standard error; lines and columns count from 1 and are null where there is no location:

```json
{"diagnostics": [{"file": "spec.yaml", "line": 6, "column": 17, "code": "unknown-key", \
"message": "blocks.0: unknown key 'filtres' in a clique block", \
"hint": "did you mean 'filters'?"}]}
```

`check` of several specs prints a list of results; those of specs with errors have `diagnostics`. \
A figure of `expect` that does not match is among them.

The errors of a file are reported together, in its order, at most 50 of them. Some hide others: \
nothing after a `syntax` error is read, and an unknown version or a bad `--set` is reported only \
with errors of the text itself. A rule about several keys of a block is checked once each value of \
the block is valid by itself, a rule about the whole spec once every section is valid, and shapes \
are inferred last. In Python, the errors are `SpecError.diagnostics`. \
A command exits with code 1 for `expect`, `training` and `verification`, with 2 for all others.

| code | meaning |
|---|---|
"""


def errors_page() -> str:
    """Return the page as Markdown."""
    return _HEAD + "".join(f"| `{code}` | {code.meaning} |\n" for code in Code)
