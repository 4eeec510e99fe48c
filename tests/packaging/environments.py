"""Bare virtual environments: a distribution, and the packages that some of its extras require.

Nothing is downloaded. Required packages are linked from the environment that runs the tests, by
their metadata; what no metadata requires is not there. So these environments show what a user
would miss, but not that pip finds versions which fit together.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def build(target: str, out: Path, source: Path = ROOT) -> Path:
    """Build a wheel or an sdist with the build backend, without isolation; return its file."""
    words = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    subprocess.run(words, cwd=source, check=True, capture_output=True)
    (built,) = out.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


def environment(folder: Path, wheel: Path, *extras: str) -> Path:
    """Create an environment with a wheel and what it requires; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), *install],
        check=True,
        capture_output=True,
    )
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (metadata,) = site.glob("cliquegraph-*.dist-info")
    for package in required(Distribution.at(metadata), extras):
        link(package, site)
    return python


def required(package: Distribution, extras: tuple[str, ...]) -> list[Distribution]:
    """All packages that a package requires with some of its extras, at any depth."""
    found: dict[str, Distribution] = {}
    left = [(package, extra) for extra in ("", *extras)]
    seen = set()
    while left:
        package, extra = left.pop()
        for text in package.requires or ():
            need = Requirement(text)
            if need.marker is not None and not need.marker.evaluate({"extra": extra}):
                continue
            name = canonicalize_name(need.name)
            try:
                found.setdefault(name, distribution(name))
            except PackageNotFoundError:  # of another platform, or CUDA's
                continue
            for more in ("", *need.extras):
                if (name, more) not in seen:
                    seen.add((name, more))
                    left.append((found[name], more))
    return list(found.values())


def link(package: Distribution, site: Path) -> None:
    """Link the files of a package into another environment, folder by folder."""
    for file in package.files or ():
        if file.parts[0] == ".." or file.suffix == ".pth":
            continue
        merge(Path(str(package.locate_file(file.parts[0]))), site / file.parts[0], file.parts[1:])


def merge(source: Path, target: Path, rest: tuple[str, ...]) -> None:
    """Link a folder whole; one that several packages share (``google``) part by part."""
    if target.is_symlink() or not source.exists():
        return
    if not source.is_dir() or (source / "__init__.py").exists() or source.suffix == ".dist-info":
        target.symlink_to(source)
        return
    if not rest:
        return
    target.mkdir(exist_ok=True)
    merge(source / rest[0], target / rest[0], rest[1:])
