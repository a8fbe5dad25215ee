"""One tokenizer over the two kinds that LLaMA checkpoints carry: `tokenizer.json` and a SentencePiece model.

Plain text never turns into a special token: every control or added token is reached through `special_id` alone. So
a post that contains `</s>` or `<|im_end|>` is encoded as the characters it consists of.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.chat.segments import AddedToken
from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_open, write_json
from mentallama_jax.formats.endings import end_ids, one_or_list
from mentallama_jax.formats.sections import Sections

if TYPE_CHECKING:
    import tokenizers

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
# Not the tokenizer's own files, but the last places that may name the beginning and the end of a text.
_HINT_FILES = ("generation_config.json", "config.json")
# transformers' class that does what tokenizer.json says and nothing else.
_FAITHFUL_CLASS = "PreTrainedTokenizerFast"
# Parts of tokenizer.json that may put a space before a text.
_PREFIXING = ("normalizer", "pre_tokenizer")


class Tokenizer:
    """Text to ids and back, with the ids of the tokens that a prompt needs.

    Attributes:
        vocab_size: one above the largest id.
        bos_id: the token that this tokenizer puts before a text; None where it puts none (SmolLM2, for example,
            names a `bos_token` but never adds it).
        eos_id: the token that ends a response.
        end_ids: every token that ends an answer by the files of the model; `eos_id` is the first of them.
        generation_config: contents of the model's `generation_config.json`; empty where there is none.
        added_tokens: the tokens that a chat template may spell out.
        special_tokens: spellings that a chat template knows, such as `bos_token`, whether or not they are added.
        pad_id: fills rows up. Never `eos_id`: where the files name no other padding token it is `<unk>`, else the
            lowest id that is not `eos_id`.
        chat_template: the Jinja template that the files bring, or None.
        fingerprint: SHA-256 of all that decides ids.
    """

    def __init__(self, files: Mapping[str, bytes], origin: str) -> None:
        """Build from the contents of `TOKENIZER_FILES` (those at hand); `origin` names them in errors.

        Raises:
            UserError: neither kind of vocabulary is there, a file is malformed, or no end-of-text token is named.
        """
        self._files = {name: files[name] for name in (*TOKENIZER_FILES, *_HINT_FILES) if name in files}
        self._origin = origin
        config = self._json("tokenizer_config.json")
        if "tokenizer.json" not in files:
            config = self._convert_sentencepiece(config)
        spec = self._json("tokenizer.json")
        # Whatever the files call special or not: no added token may be read from the text of a post.
        added = spec.get("added_tokens") or []
        spec |= {"added_tokens": [{**token, "special": True} for token in added], "truncation": None, "padding": None}
        self._start = self._build(spec)
        self._continued = self._build(spec | {part: _without_prefix(spec.get(part)) for part in _PREFIXING})
        self._vocabulary: dict[str, int] = self._start.get_vocab()
        self.vocab_size = max(self._vocabulary.values()) + 1
        # Some published tokenizers add a padding token that the model's embedding has no row for.
        self._rows = int(self._json("config.json").get("vocab_size") or self.vocab_size)
        named = {role: self._named_id(role, config) for role in ("bos", "eos", "pad", "unk")}
        if named["eos"] is None:
            raise UserError(f"{origin}: no eos_token is named; add one to tokenizer_config.json")
        self.eos_id = named["eos"]
        self.bos_id = named["bos"] if self._adds_bos(config, named["bos"]) else None
        candidates = [named["pad"], named["unk"], *range(2)]
        self.pad_id = next(id_ for id_ in candidates if id_ is not None and id_ != self.eos_id)
        self.added_tokens = tuple(
            AddedToken(token["content"], *(bool(token.get(flag)) for flag in ("lstrip", "rstrip", "single_word")))
            for token in added
        )
        self._special = {token["id"] for token in added if token["special"]}
        self._special |= {id_ for id_ in named.values() if id_ is not None}
        self.chat_template = self._template(config)
        self.special_tokens = {f"{role}_token": self._token(id_) for role, id_ in named.items() if id_ is not None}
        self.generation_config = self._json("generation_config.json")
        hints = {name: self._json(name) for name in _HINT_FILES}
        self.end_ids = end_ids(self.eos_id, hints, min(self._rows, self.vocab_size), origin)
        deciding = [spec.get(part) for part in ("model", "added_tokens", *_PREFIXING)]
        deciding += [self.bos_id, self.eos_id, self.pad_id]
        self.fingerprint = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
        self._complete_config(config, named)

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[dict[str, bytes], str]]:
        return Tokenizer, (self._files, self._origin)

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """Ids of `text`, without BOS or EOS.

        `continues=True` says that the text goes on after earlier tokens: no dummy space is put before it, so
        `encode(a) + encode(" b", continues=True)` equals `encode(a + " b")`.
        """
        return self.encode_batch([text], continues)[0]

    def encode_after(self, text: str, token: str) -> list[int]:
        """Ids of plain text that stands behind the special token `token`."""
        return self._sections.encode(text, token)

    @cached_property
    def _sections(self) -> Sections:
        return Sections(self._json("tokenizer.json"))

    def encode_batch(self, texts: Sequence[str], continues: bool = False) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        tokenizer = self._continued if continues else self._start
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens; SentencePiece's dummy space at the start is dropped."""
        known = (int(id_) for id_ in ids if id_ < self.vocab_size)
        return str(self._start.decode([id_ for id_ in known if id_ not in self._special], skip_special_tokens=False))

    def special_id(self, token: str) -> int:
        """Id of a token written out, such as `<|im_start|>`.

        Raises:
            UserError: the vocabulary has no such token, or the model no embedding for it.
        """
        id_ = self._vocabulary.get(token)
        if id_ is None:
            near = get_close_matches(token, [self._token(i) for i in sorted(self._special)], n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else "; choose a style whose tokens it has"
            raise UserError(f"{self._origin}: the tokenizer has no token {token}{hint}")
        if id_ >= self._rows:
            raise UserError(f"{self._origin}: token {token} has id {id_}, but the model has {self._rows} embeddings")
        return id_

    def with_chat_template(self, template: str) -> "Tokenizer":
        """The same tokenizer with another chat template."""
        make, (files, *rest) = self.__reduce__()
        return make({**files, "chat_template.jinja": template.encode()}, *rest)

    def save(self, folder: Path) -> None:
        """Write the files this tokenizer was made from into `folder`, where transformers' AutoTokenizer finds them.

        A `tokenizer.model` gets a `tokenizer.json` besides, which transformers needs to give the same ids. The
        settings of generation go with them, with every token that ends an answer.
        """
        for name in TOKENIZER_FILES:
            if name in self._files:
                with atomic_open(Path(folder) / name, "wb") as stream:
                    stream.write(self._files[name])
        if self.generation_config or len(self.end_ids) > 1:
            ends = {"eos_token_id": one_or_list(self.end_ids)}
            write_json(Path(folder) / "generation_config.json", self.generation_config | ends)

    def _json(self, name: str) -> dict[str, Any]:
        if name not in self._files:
            return {}
        try:
            value = json.loads(self._files[name])
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"{self._origin}: {name} is not valid JSON ({error})") from None
        if not isinstance(value, dict):
            raise UserError(f"{self._origin}: {name} holds no JSON object")
        return value

    def _build(self, spec: dict[str, Any]) -> "tokenizers.Tokenizer":
        import tokenizers

        try:
            tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec))
        except Exception as error:  # tokenizers raises bare Exception
            raise UserError(f"{self._origin}: tokenizer.json cannot be read ({error})") from None
        tokenizer.encode_special_tokens = True
        return tokenizer

    def _convert_sentencepiece(self, config: dict[str, Any]) -> dict[str, Any]:
        """Add a `tokenizer.json` made from `tokenizer.model`; return the config with the special tokens it names."""
        from mentallama_jax.formats.sentencepiece_json import convert

        if "tokenizer.model" not in self._files:
            raise UserError(
                f"{self._origin}: no tokenizer.json or tokenizer.model; give a folder that holds one of them"
            )
        added = {str(token): int(id_) for token, id_ in self._json("added_tokens.json").items()}
        for id_, token in config.get("added_tokens_decoder", {}).items():
            added[token["content"]] = int(id_)
        adds_bos = config.get("add_bos_token", True)
        origin = f"{self._origin}: tokenizer.model"
        self._files["tokenizer.json"], named = convert(self._files["tokenizer.model"], added, adds_bos, origin)
        given = {key: value for key, value in config.items() if value is not None}
        # LlamaTokenizer would put its own pre-tokenizer in the place of the file's, and skip the dummy space of " x".
        return named | given | {"tokenizer_class": _FAITHFUL_CLASS}

    def _token(self, id_: int) -> str:
        return str(self._start.id_to_token(id_))

    def _declared(self, role: str, config: dict[str, Any]) -> int | None:
        """The id of the `bos`, `eos`, `pad` or `unk` token that the tokenizer's own files name."""
        for source in (config, self._json("special_tokens_map.json")):
            token = source.get(f"{role}_token")
            token = token.get("content") if isinstance(token, dict) else token
            if token in self._vocabulary:
                return self._vocabulary[token]
        return None

    def _named_id(self, role: str, config: dict[str, Any]) -> int | None:
        """The id of the `bos`, `eos`, `pad` or `unk` token, from the first file that names one the model has."""
        declared = self._declared(role, config)
        if declared is not None and declared < self._rows:
            return declared
        for name in _HINT_FILES:
            id_ = self._json(name).get(f"{role}_token_id")
            id_ = id_[0] if isinstance(id_, list) and id_ else id_
            if isinstance(id_, int) and 0 <= id_ < min(self.vocab_size, self._rows):
                return id_
        # LLaMA's own names, for a tokenizer.json that stands alone.
        own = self._vocabulary.get({"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"}[role])
        return own if own is not None and own < self._rows else None

    def _adds_bos(self, config: dict[str, Any], bos_id: int | None) -> bool:
        declared = config.get("add_bos_token")
        if isinstance(declared, bool):
            return declared
        return bos_id is not None and self._start.encode("").ids[:1] == [bos_id]

    def _template(self, config: dict[str, Any]) -> str | None:
        if "chat_template.jinja" in self._files:
            return self._files["chat_template.jinja"].decode("utf-8", errors="replace")
        template = config.get("chat_template")
        if isinstance(template, list):  # several named ones, as older transformers wrote them
            template = {entry["name"]: entry["template"] for entry in template}.get("default")
        return template

    def _complete_config(self, config: dict[str, Any], named: dict[str, int | None]) -> None:
        """Where the saved files alone would not give the same special tokens, spell them out in tokenizer_config."""
        original = self._json("tokenizer_config.json")
        padding = self._declared("pad", config)
        stands_alone = original.get("eos_token") and (padding is None or padding < self._rows)
        class_name = original.get("tokenizer_class")
        if stands_alone and class_name and class_name == config["tokenizer_class"]:
            return
        config.setdefault("tokenizer_class", _FAITHFUL_CLASS)
        config.setdefault("add_bos_token", self.bos_id is not None)
        for role, id_ in (named | {"pad": self.pad_id}).items():
            if id_ is not None:
                config[f"{role}_token"] = self._token(id_)
        self._files["tokenizer_config.json"] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


def load_tokenizer(source: str | Path, revision: str | None = None) -> Tokenizer:
    """Read the tokenizer of a model: a folder, a `.gguf` file, `package:NAME` or a hub id (see `hub.locate`).

    Raises:
        UserError: no such model, or no usable tokenizer in it.
    """
    from mentallama_jax.formats.hub import locate

    path = locate(source, revision, weights=False)
    if path.is_file():
        from mentallama_jax.formats.gguf import open_gguf
        from mentallama_jax.formats.gguf_tokenizer import read_gguf_tokenizer

        return read_gguf_tokenizer(open_gguf(path).metadata, str(source))
    names = [name for name in (*TOKENIZER_FILES, *_HINT_FILES) if (path / name).is_file()]
    return Tokenizer({name: (path / name).read_bytes() for name in names}, str(source))


def _without_prefix(part: Any) -> Any:
    """A normalizer or pre-tokenizer of `tokenizer.json` that puts no space before a text."""
    match part:
        case {"type": "Sequence", "normalizers": list(members)}:
            kept = [_without_prefix(member) for member in members]
            return {**part, "normalizers": [member for member in kept if member is not None]}
        case {"type": "Sequence", "pretokenizers": list(members)}:
            return {**part, "pretokenizers": [_without_prefix(member) for member in members]}
        case {"type": "Prepend"}:
            return None
        case {"type": "Metaspace"}:
            return {**part, "prepend_scheme": "never", "add_prefix_space": False}
        case {"type": "ByteLevel"}:
            return {**part, "add_prefix_space": False}
    return part
