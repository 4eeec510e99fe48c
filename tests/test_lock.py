"""requirements.lock is constraints.txt with hashes, and all that it implies."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINS = re.findall(
    r"^([a-z0-9._-]+)==(\S+)(?: ; [^\\\n]*[^\\\n ])?( \\\n    --hash=sha256:[0-9a-f]{64})?",
    LOCK,
    re.M,
)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_version_is_that_of_the_constraints() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    wanted = {normal(n): v for n, v in re.findall(r"^([\w.-]+)==(\S+)$", text, re.M)}
    locked = {normal(name): version for name, version, _ in PINS}
    del wanted["torch"]  # see SECURITY.md
    assert {name: locked.get(name) for name in wanted} == wanted


def test_every_requirement_has_a_hash() -> None:
    assert len(PINS) > 100
    assert all(hashed for _, _, hashed in PINS)


def test_pytorch_and_what_cuda_needs_are_not_locked() -> None:
    # Triton is: tests run its kernels without a GPU.
    assert {"torch", "triton"} & {name for name, _, _ in PINS} == {"triton"}
    assert "nvidia" not in LOCK
