"""Checks of the arguments of public functions."""

from __future__ import annotations

from cliquegraph.diagnostics.errors import UsageError


def require_type(value: object, expected: type, source: str) -> None:
    """Check the type of an argument.

    Args:
        value: the argument.
        expected: its type.
        source: the call that returns a value of this type.

    Raises:
        UsageError: it is of another type.
    """
    if not isinstance(value, expected):
        found = describe_type(value)
        raise UsageError(f"expected a {expected.__name__}, found {found}: pass {source}")


def describe_type(value: object) -> str:
    """Describe a value that is of a wrong type.

    >>> describe_type(3), describe_type(int)
    ('an int', 'the class int')
    """
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
