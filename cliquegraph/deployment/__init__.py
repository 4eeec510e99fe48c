"""Export of trained networks in the formats of runtimes."""
