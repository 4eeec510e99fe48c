"""The kinds of errors, each with a code that stays when its message is reworded.

``docs/errors.md`` is made of this table by ``cliquegraph errors``.
"""

from __future__ import annotations

from enum import Enum


class Code(Enum):
    """What went wrong: a code and what it stands for."""

    UNREADABLE = "unreadable-file", "there is no such file, or it is a folder, a pipe, a device"
    NOT_TEXT = "not-text", "bytes that are no UTF-8, or a character that YAML does not allow"
    EMPTY = "empty-spec", "nothing is written, or comments alone"
    OVER_LIMIT = "over-limit", "larger or deeper than any network needs; the hint names the limit"
    SYNTAX = "syntax", "neither YAML nor JSON; nothing behind the place is read"
    ANCHOR = "anchor", "an anchor or alias, `&` or `*`: `block_defaults` is what blocks share"
    TAG = "tag", "a tag such as `!!int`: a value is what it looks like"
    SECOND_DOCUMENT = "second-document", "a file holds one spec"
    DUPLICATE_KEY = "duplicate-key", "a section has a key twice"
    KEY_NOT_TEXT = "key-not-text", "a key that is a number, a list or a section"
    VERSION = "unknown-version", "the spec is of a version that this compiler does not read"
    UNKNOWN_KEY = "unknown-key", "no such key in this section; the hint has the nearest, or all"
    MISSING_KEY = "missing-key", "a section lacks a key that it must have"
    WRONG_VALUE = "wrong-value", "a value of another type, or out of its range"
    SCHEDULE = "impossible-schedule", "keys of a block that can't hold together"
    RESERVED_NAME = "reserved-name", "a name that Python or the generated file needs itself"
    SIZE = "impossible-size", "a window larger than its map, a compression to no channel"
    OVERRIDE = "bad-override", "`--set` that is not PATH=VALUE, or whose path leads nowhere"
    MORE = "more-errors", "the file has more faults than are shown"
    EXPECT = "expect", "the network's figures are not those that its spec expects"
    USAGE = "usage", "an option, an argument or a file to write that can't be had"
    BACKEND = "backend", "a backend is not installed, or its framework is missing"
    WEIGHTS = "weights", "a file of weights is damaged or of another network"
    DATA = "data", "images or labels that can't be read"
    TRAINING = "training", "a training can't go on: no finite loss, a full disk"
    VERIFICATION = "verification", "a graph breaks its own rules: a defect of cliquegraph"

    def __init__(self, slug: str, meaning: str) -> None:
        self.slug = slug
        self.meaning = meaning

    def __str__(self) -> str:
        return self.slug
