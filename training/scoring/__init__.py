"""Scoring pairs and runs with any reward: what `regionwise score` and `push --reward` ask."""
