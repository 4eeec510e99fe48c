"""The packages that the backend needs: names on PyPI by module."""

FRAMEWORK = {"torch": "torch"}
TRAINER = {**FRAMEWORK, "pytorch_lightning": "pytorch-lightning"}
