"""Canonical tensors: values for them, and how a compiled network stores them."""
