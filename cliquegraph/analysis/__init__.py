"""The cost of a network."""
