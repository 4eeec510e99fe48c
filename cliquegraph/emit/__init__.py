"""From op graphs to source files: what every backend shares."""
