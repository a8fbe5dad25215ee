"""Models and tokenizers to and from files: Hugging Face folders and hub ids in and out, GGUF in."""
