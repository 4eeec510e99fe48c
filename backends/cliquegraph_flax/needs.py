"""The packages that the backend needs: names on PyPI by module."""

FRAMEWORK = {"jax": "jax", "flax": "flax", "optax": "optax"}
TRAINER = {**FRAMEWORK, "orbax.checkpoint": "orbax-checkpoint"}
