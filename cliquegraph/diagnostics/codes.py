"""The kinds of errors, each with a code that stays the same when its message is reworded.

``cliquegraph errors`` generates ``docs/errors.md`` from this table.
"""

from __future__ import annotations

from enum import Enum


class Code(Enum):
    """What went wrong: a code and its meaning."""

    UNREADABLE = "unreadable-file", "the file does not exist, or is a directory, a pipe or a device"
    NOT_TEXT = "not-text", "bytes that are not UTF-8, or a character that YAML does not allow"
    EMPTY = "empty-spec", "the spec is empty or has only comments"
    OVER_LIMIT = "over-limit", "larger or deeper than any network needs; the hint names the limit"
    SYNTAX = "syntax", "neither YAML nor JSON; nothing after the error is read"
    ANCHOR = "anchor", "an anchor or alias, `&` or `*`; blocks share keys through `block_defaults`"
    TAG = "tag", "a tag such as `!!int`; a value's type follows from how it is written"
    SECOND_DOCUMENT = "second-document", "a file with more than one document; it must hold one spec"
    DUPLICATE_KEY = "duplicate-key", "a key that occurs twice in a section"
    KEY_NOT_TEXT = "key-not-text", "a key that is a number, a list or a section"
    VERSION = "unknown-version", "a language version that this compiler does not read"
    UNKNOWN_KEY = (
        "unknown-key",
        "no such key in this section; the hint names the closest one, or all",
    )
    MISSING_KEY = "missing-key", "a section without a required key"
    WRONG_VALUE = "wrong-value", "a value of the wrong type or out of range"
    SCHEDULE = "impossible-schedule", "keys of a block that contradict each other"
    RESERVED_NAME = "reserved-name", "a name that Python or the generated file already uses"
    SIZE = (
        "impossible-size",
        "an invalid shape: a window larger than its map, a compression to zero channels",
    )
    OVERRIDE = "bad-override", "a `--set` that is not PATH=VALUE, or whose path does not exist"
    MORE = "more-errors", "more errors in the file than are shown"
    EXPECT = "expect", "figures of the network that differ from those its spec expects"
    USAGE = "usage", "an invalid option or argument, or a file that can't be written"
    BACKEND = "backend", "a backend that is not installed, or whose framework is missing"
    WEIGHTS = "weights", "a weights file that is damaged or belongs to another network"
    DATA = "data", "images or labels that can't be read"
    TRAINING = "training", "training that can't continue: a non-finite loss, a full disk"
    VERIFICATION = "verification", "a graph that violates its invariants: a bug in cliquegraph"

    def __init__(self, slug: str, meaning: str) -> None:
        self.slug = slug
        self.meaning = meaning

    def __str__(self) -> str:
        return self.slug
