"""The machine on which a benchmark runs."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.bundled.rounds import Json

PACKAGES = ("numpy", "torch", "triton", "torchvision", "timm", "jax", "jaxlib", "flax", "optax")


def machine() -> Json:
    """The machine; threads and devices of the frameworks that are loaded."""
    found: Json = {
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch := sys.modules.get("torch"):
        found["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["cuda_device"] = torch.cuda.get_device_name()
            found["cuda"] = torch.version.cuda
            found["cudnn"] = torch.backends.cudnn.version()
    if jax := sys.modules.get("jax"):
        found["jax_device"] = jax.devices()[0].device_kind
    return found


def _cpu() -> str:
    """The model of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model[1] if model else platform.processor()
