"""Rewrites of the op graph; each computes the same function."""
