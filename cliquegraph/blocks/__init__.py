"""Blocks: one model of what a block is, and one file for each kind that is a short name for one."""
