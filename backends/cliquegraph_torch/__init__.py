"""The PyTorch backend: one standalone ``nn.Module`` file for a network."""

from cliquegraph_torch.backend import BACKEND

__all__ = ["BACKEND"]
