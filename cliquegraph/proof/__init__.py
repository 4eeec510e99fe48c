"""Showing that two ways compute the same."""
