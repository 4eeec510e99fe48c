"""The paper's experiments on trained networks."""
