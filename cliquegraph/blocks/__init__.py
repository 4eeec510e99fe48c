"""Blocks: the model of a block, and one file for each kind, a short way to declare one."""
