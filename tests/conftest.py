from __future__ import annotations

import os

from hypothesis import settings

# Workers of pytest-xdist share the cores; threads that wait for each other would take them all.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, however slow the machine.
settings.register_profile("cliquegraph", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("cliquegraph")

collect_ignore = ["third_backend"]  # a package of its own, with its own entry point
