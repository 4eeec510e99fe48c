"""Errors, their codes, and source locations."""
