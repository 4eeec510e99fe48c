"""Training, as far as it is the same for every framework: recipes, runs, logs, scores."""
