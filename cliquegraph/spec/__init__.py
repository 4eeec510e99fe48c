"""The spec language: its models and its loader."""
