"""Pictures of networks, weights and runs."""
