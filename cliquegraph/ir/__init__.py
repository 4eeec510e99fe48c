"""The op graph: typed, immutable, verified."""
