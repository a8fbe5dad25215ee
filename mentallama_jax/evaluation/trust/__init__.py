"""What makes outputs worth trusting, or not: quotes that occur in the post, words that do no harm."""
