"""What is wrong or risky in data: malformed rows, posts that splits share, lengths in tokens."""
