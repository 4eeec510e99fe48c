"""Verification of random networks; failing specs are shrunk and saved."""
