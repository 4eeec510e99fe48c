"""Python with one more package installed, which is laid out in a folder of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_with(package: Path, *arguments: str) -> str:
    """What ``python ARGUMENTS`` prints, in the project's folder; it must succeed."""
    path = os.pathsep.join(map(str, (package, ROOT, ROOT / "backends")))
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
