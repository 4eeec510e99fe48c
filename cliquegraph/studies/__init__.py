"""Experiments of the paper on networks that are trained."""
