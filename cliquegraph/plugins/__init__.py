"""Plugins: the protocols that other packages implement, and their discovery."""
