"""Storages with reference counts, and the most bytes in use at any time."""

from __future__ import annotations


class Storage:
    """Bytes, with a reference count."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.holders = 1


class Heap:
    """Bytes in use, and their peak."""

    def __init__(self) -> None:
        self.used = 0
        self.peak = 0

    def take(self, size: int) -> Storage:
        """Allocate."""
        self.used += size
        self.peak = max(self.peak, self.used)
        return Storage(size)

    def hold(self, storage: Storage) -> Storage:
        """Add a reference."""
        storage.holders += 1
        return storage

    def drop(self, *storages: Storage) -> None:
        """Remove a reference to each; free what has none left."""
        for storage in storages:
            storage.holders -= 1
            if not storage.holders:
                self.used -= storage.size

    def need(self, *sizes: int) -> None:
        """Allocate all of these at once, and free them."""
        self.drop(*[self.take(size) for size in sizes])
