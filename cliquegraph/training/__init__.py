"""The framework-independent parts of training: recipes, runs, logs, scores."""
