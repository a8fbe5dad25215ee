"""From the messages of a conversation to token ids: segments of text and special tokens, by a model's own template."""
