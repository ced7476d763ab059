"""The dataset: its plan, rows, scores, shards, export and card."""
