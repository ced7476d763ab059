"""People: what annotators are sent and what they send back."""
