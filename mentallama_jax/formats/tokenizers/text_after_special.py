"""Encodes a text as tokenizers does where it stands behind a special token: some put a blank before it, some do not."""

import json
import secrets
from collections.abc import Mapping
from typing import Any


class Sections:
    """Encoders of the text behind a special token.

    An added token splits a text, and what follows is normalised anew, unless the token itself is looked for in
    normalised text. A marker of each kind, which no text can hold, stands in for the special token here.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        """Build from the contents of a `tokenizer.json`."""
        import tokenizers

        added = spec.get("added_tokens") or []
        self._normalized = {token["content"] for token in added if token.get("normalized")}
        first = 1 + max([*spec["model"]["vocab"].values(), *(token["id"] for token in added)])
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "special": False}
        marks = {normalized: f"\ue000{secrets.token_hex(12)}\ue001" for normalized in (False, True)}
        self._marks = {normalized: (mark, first + normalized) for normalized, mark in marks.items()}
        markers = [
            {"id": id_, "content": mark, "normalized": normalized, **flags}
            for normalized, (mark, id_) in self._marks.items()
        ]
        own = [{**token, "special": True} for token in added]
        content = {**spec, "added_tokens": [*own, *markers], "truncation": None, "padding": None}
        self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
        self._tokenizer.encode_special_tokens = True

    def encode(self, text: str, token: str) -> list[int]:
        """Ids of `text`, which follows the special token `token`."""
        mark, id_ = self._marks[token in self._normalized]
        ids: list[int] = self._tokenizer.encode(mark + text, add_special_tokens=False).ids
        return ids[ids.index(id_) + 1 :]
