"""Answers from a model: batched decoding with a KV cache, sampling, scores over a closed set of labels."""
