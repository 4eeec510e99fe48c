"""Random networks, verified; those that fail are made small and written down."""
