"""Region rewards: what they are asked, what they answer, and those that learn from the dataset."""
