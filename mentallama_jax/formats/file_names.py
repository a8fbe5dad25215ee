"""Names of the files that make a tokenizer."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
# Not the tokenizer's own files, but the last places that may name the beginning and the end of a text.
HINT_FILES = ("generation_config.json", "config.json")
