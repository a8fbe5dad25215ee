"""Tokenizers: tokenizer.json, SentencePiece models, and those inside GGUF files."""
