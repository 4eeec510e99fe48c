"""The step graph: one node per update, the rows of the paper's Table 1."""
