"""From the step graph to the op graph."""
