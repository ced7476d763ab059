"""What a source or a candidate must pass: the measures of the gates, and near-duplicates."""
