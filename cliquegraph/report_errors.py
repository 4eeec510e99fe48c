"""``docs/errors.md``: the codes of errors, from the table in ``codes.py``."""

from __future__ import annotations

from cliquegraph.codes import Code

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

The faults of a file are reported together, in its order, up to 50 of them; after a `syntax` \
error nothing more of it is read. In Python they are `SpecError.diagnostics`. \
`expect`, `training` and `verification` end a command with exit code 1, the others with 2.

| code | stands for |
|---|---|
"""


def errors_page() -> str:
    """Return the page as Markdown."""
    return _HEAD + "".join(f"| `{code}` | {code.meaning} |\n" for code in Code)
