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
from mentallama_jax.foreign import parse_json, shown
from mentallama_jax.formats.endings import end_ids, one_or_list
from mentallama_jax.formats.file_names import HINT_FILES, TOKENIZER_FILES
from mentallama_jax.formats.folder import read_small
from mentallama_jax.formats.notices import notice
from mentallama_jax.formats.tokenizers.text_after_special import Sections
from mentallama_jax.formats.tokenizers.token_bytes import broken_bytes_shown, byte_ids, bytes_of, is_byte_level
from mentallama_jax.formats.tokenizers.tokenizer_checks import check_spec

if TYPE_CHECKING:
    import tokenizers

# transformers' class that does what tokenizer.json says and nothing else.
_FAITHFUL_CLASS = "PreTrainedTokenizerFast"
# Parts of tokenizer.json that may put a space before a text.
_PREFIXING = ("normalizer", "pre_tokenizer")


class Tokenizer:
    """Text to ids and back, with the ids of the tokens that a prompt needs.

    Attributes:
        vocab_size: one above the largest id that a text or a special token can have. Added tokens beyond the rows of
            the model's embedding (a `<pad>` with id 32000 in many copies of LLaMA 2) are not counted: they are never
            used.
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

    def __init__(self, files: Mapping[str, bytes], origin: str, rows: int | None = None) -> None:
        """Build from the contents of `TOKENIZER_FILES` (those at hand).

        Args:
            files: name -> contents.
            origin: names them in errors.
            rows: of the model's embedding; by default what a `config.json` among the files says.

        Raises:
            UserError: neither kind of vocabulary is there, a file is malformed, or no end-of-text token is named.
        """
        self._files = {name: files[name] for name in (*TOKENIZER_FILES, *HINT_FILES) if name in files}
        self._origin = origin
        config = self._json("tokenizer_config.json")
        if "tokenizer.json" not in files:
            config = self._convert_sentencepiece(config)
        spec = self._json("tokenizer.json")
        check_spec(spec, origin)
        # Whatever the files call special or not: no added token may be read from the text of a post.
        added = spec.get("added_tokens") or []
        spec |= {"added_tokens": [{**token, "special": True} for token in added], "truncation": None, "padding": None}
        self._start = self._build(spec)
        self._continued = self._build(spec | {part: _without_prefix(spec.get(part)) for part in _PREFIXING})
        self._vocabulary: dict[str, int] = self._start.get_vocab()
        # Some published tokenizers add a padding token that the model's embedding has no row for.
        largest = max(self._vocabulary.values(), default=0)
        self._given_rows = rows
        self._rows = rows or _whole(self._json("config.json").get("vocab_size")) or largest + 1
        texts = {token["content"] for token in added}
        used = [id_ for token, id_ in self._vocabulary.items() if id_ < self._rows or token not in texts]
        self.vocab_size = max(used, default=0) + 1
        named = {role: self._named_id(role, config) for role in ("bos", "eos", "pad", "unk")}
        if named["eos"] is None:
            raise UserError(f"{origin}: no eos_token is named; add one to tokenizer_config.json")
        self.eos_id = named["eos"]
        self.bos_id = named["bos"] if self._adds_bos(config, named["bos"]) else None
        candidates = [named["pad"], named["unk"], *range(2)]
        self.pad_id = next(id_ for id_ in candidates if id_ is not None and id_ != self.eos_id)
        self._special = {token["id"] for token in added if token.get("special")}
        self.added_tokens = tuple(
            AddedToken(token["content"], *(bool(token.get(flag)) for flag in ("lstrip", "rstrip", "single_word")))
            for token in added
        )
        self._special |= {id_ for id_ in named.values() if id_ is not None}
        self.chat_template = self._template(config)
        self.special_tokens = {f"{role}_token": self._token(id_) for role, id_ in named.items() if id_ is not None}
        self.generation_config = self._json("generation_config.json")
        hints = {name: self._json(name) for name in HINT_FILES}
        self.end_ids = end_ids(self.eos_id, hints, min(self._rows, self.vocab_size), origin)
        deciding = [spec.get(part) for part in ("model", "added_tokens", *_PREFIXING)]
        deciding += [self.bos_id, self.eos_id, self.pad_id]
        self.fingerprint = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
        self._say_what_is_beyond(config, named | {"bos": self.bos_id, "pad": self.pad_id})
        self._complete_config(config, named)

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[dict[str, bytes], str, int | None]]:
        return Tokenizer, (self._files, self._origin, self._given_rows)

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

    def decode(self, ids: Sequence[int], *, continues: bool = False) -> str:
        """Text of `ids` without special tokens; SentencePiece's dummy space at the start is dropped.

        What follows changes nothing of it but U+FFFD at its end, which stands for the bytes of half a character.
        `continues=True` says that the ids go on after earlier ones, whose text ends with a whole character: a space at
        the start is theirs and stays.
        """
        if continues and self._anchor:
            return self._decoded([self._anchor[0], *ids])[len(self._anchor[1]) :]
        return self._decoded(ids)

    @cached_property
    def _anchor(self) -> tuple[int, str] | None:
        """A token of plain letters and its text, to stand before what goes on; None where no token is so."""
        texts = ((id_, self._decoded([id_])) for id_ in range(self.vocab_size) if id_ not in self._byte_ids)
        return next(((id_, text) for id_, text in texts if text.isascii() and text.isalpha()), None)

    def _decoded(self, ids: Sequence[int]) -> str:
        known = (int(id_) for id_ in ids if id_ < self.vocab_size)
        kept = [id_ for id_ in known if id_ not in self._special]
        if self._byte_ids.isdisjoint(kept):
            return str(self._start.decode(kept, skip_special_tokens=False))
        spelt = (self._start.id_to_token(id_) for id_ in kept)
        return str(self._start.decoder.decode(broken_bytes_shown([token for token in spelt if token is not None])))

    def token_bytes(self, id_: int) -> bytes:
        """The bytes that a token adds to a text; of a special token its spelling, and none where there is no token."""
        spelling = self._start.id_to_token(id_)
        if spelling is None:
            return b""
        return spelling.encode() if id_ in self._special else bytes_of(spelling, byte_level=self._is_byte_level)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids that no text turns into."""
        return tuple(sorted(self._special))

    @cached_property
    def _byte_ids(self) -> frozenset[int]:
        return byte_ids(self._json("tokenizer.json"), self._vocabulary)

    @cached_property
    def _is_byte_level(self) -> bool:
        return is_byte_level(self._json("tokenizer.json"))

    def special_id(self, token: str) -> int:
        """Id of a token written out, such as `<|im_start|>`.

        Raises:
            UserError: the vocabulary has no such token, or the model no embedding for it.
        """
        id_ = self._vocabulary.get(token)
        if id_ is None:
            near = get_close_matches(token, [self._token(i) for i in sorted(self._special)], n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else "; choose a style whose tokens it has"
            raise UserError(f"{self._origin}: the tokenizer has no token {token}{hint}")
        if id_ >= self._rows:
            raise UserError(f"{self._origin}: token {token} has id {id_}, but the model has {self._rows} embeddings")
        return id_

    def with_chat_template(self, template: str) -> "Tokenizer":
        """The same tokenizer with another chat template."""
        files = {**self._files, "chat_template.jinja": template.encode()}
        return Tokenizer(files, self._origin, self._given_rows)

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
        value = parse_json(self._files[name], f"{self._origin}: {name}", allow_nan=True)
        if not isinstance(value, dict):
            raise UserError(f"{self._origin}: {name} holds no JSON object")
        return value

    def _build(self, spec: dict[str, Any]) -> "tokenizers.Tokenizer":
        import tokenizers

        try:
            tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec))
        except BaseException as error:  # tokenizers raises bare Exception, or what pyo3 makes of a panic
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            words = shown(" ".join(str(error).split()), 120)
            raise UserError(f"{self._origin}: tokenizer.json cannot be read ({words})") from None
        tokenizer.encode_special_tokens = True
        return tokenizer

    def _convert_sentencepiece(self, config: dict[str, Any]) -> dict[str, Any]:
        """Add a `tokenizer.json` made from `tokenizer.model`; return the config with the special tokens it names."""
        from mentallama_jax.formats.tokenizers.sentencepiece_json import convert

        if "tokenizer.model" not in self._files:
            raise UserError(
                f"{self._origin}: no tokenizer.json or tokenizer.model; give a folder that holds one of them"
            )
        added = self._added(config)
        adds_bos = config.get("add_bos_token") is not False
        origin = f"{self._origin}: tokenizer.model"
        self._files["tokenizer.json"], named = convert(self._files["tokenizer.model"], added, adds_bos, origin)
        given = {key: value for key, value in config.items() if value is not None}
        # LlamaTokenizer would put its own pre-tokenizer in the place of the file's, and skip the dummy space of " x".
        return named | given | {"tokenizer_class": _FAITHFUL_CLASS}

    def _added(self, config: dict[str, Any]) -> dict[str, int]:
        """Tokens beyond those of `tokenizer.model`, by both of the files that may list them."""
        decoder = config.get("added_tokens_decoder") or {}
        entries: list[tuple[Any, Any]] = list(self._json("added_tokens.json").items())
        if not isinstance(decoder, dict):
            raise UserError(f"{self._origin}: tokenizer_config.json has an added_tokens_decoder that is no object")
        for id_, token in decoder.items():
            content = token.get("content") if isinstance(token, dict) else None
            entries.append((content, int(id_) if id_.isascii() and id_.isdecimal() and len(id_) < 10 else None))
        added = {}
        for token, id_ in entries:
            if not isinstance(token, str) or not token or _whole(id_) is None:
                raise UserError(
                    f"{self._origin}: added tokens need a text and a number each, found {shown((token, id_))}"
                )
            added[token] = id_
        return added

    def _token(self, id_: int) -> str:
        return str(self._start.id_to_token(id_))

    def _declared(self, role: str, config: dict[str, Any]) -> int | None:
        """The id of the `bos`, `eos`, `pad` or `unk` token that the tokenizer's own files name."""
        for source in (config, self._json("special_tokens_map.json")):
            token = source.get(f"{role}_token")
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str) and token in self._vocabulary:
                return self._vocabulary[token]
        return None

    def _named_id(self, role: str, config: dict[str, Any]) -> int | None:
        """The id of the `bos`, `eos`, `pad` or `unk` token, from the first file that names one the model has."""
        declared = self._declared(role, config)
        if declared is not None and declared < self._rows:
            return declared
        return self._hinted_id(role)

    def _say_what_is_beyond(self, config: dict[str, Any], used: dict[str, int | None]) -> None:
        """Say in a line each which declared special tokens the model has no row for, and what is used instead."""
        for role, id_ in used.items():
            declared = self._declared(role, config)
            if declared is not None and declared >= self._rows:
                instead = "none is used" if id_ is None else f"{shown(self._token(id_))} (id {id_}) is used instead"
                notice(
                    f"{self._origin}: {role}_token {shown(self._token(declared))} has id {declared}, but the model has "
                    f"{self._rows:,} embeddings; {instead}"
                )

    def _hinted_id(self, role: str) -> int | None:
        """The id of a special token by the files beside the tokenizer's own, or by LLaMA's names."""
        for name in HINT_FILES:
            id_ = self._json(name).get(f"{role}_token_id")
            known = _whole(id_[0] if isinstance(id_, list) and id_ else id_)
            if known is not None and known < min(self.vocab_size, self._rows):
                return known
        # For a tokenizer.json that stands alone.
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
            named = [entry for entry in template if isinstance(entry, dict)]
            template = next((entry.get("template") for entry in named if entry.get("name") == "default"), None)
        if template is not None and not isinstance(template, str):
            raise UserError(f"{self._origin}: tokenizer_config.json has a chat_template that is no text")
        return template

    def _complete_config(self, config: dict[str, Any], named: dict[str, int | None]) -> None:
        """Where the saved files alone would not give the same special tokens, spell them out in tokenizer_config."""
        original = self._json("tokenizer_config.json")
        declared = {role: self._declared(role, config) for role in named}
        beyond = [role for role, id_ in declared.items() if id_ is not None and id_ >= self._rows]
        # Many published tokenizers pad with their end; here another token does, so that no end is taken for padding.
        pads_alike = declared["pad"] in (None, self.pad_id)
        stands_alone = original.get("eos_token") and not beyond and pads_alike
        class_name = original.get("tokenizer_class")
        if stands_alone and class_name and class_name == config["tokenizer_class"]:
            return
        for role in beyond:
            del config[f"{role}_token"]
        config.setdefault("tokenizer_class", _FAITHFUL_CLASS)
        config.setdefault("add_bos_token", self.bos_id is not None)
        for role, id_ in (named | {"pad": self.pad_id}).items():
            if id_ is not None:
                config[f"{role}_token"] = self._token(id_)
        self._files["tokenizer_config.json"] = _json_bytes(config)
        spelt = self._json("special_tokens_map.json")  # transformers takes its word before that of the config
        if not pads_alike and "pad_token" in spelt:
            self._files["special_tokens_map.json"] = _json_bytes(spelt | {"pad_token": self._token(self.pad_id)})


def load_tokenizer(source: str | Path, revision: str | None = None, rows: int | None = None) -> Tokenizer:
    """Read the tokenizer of a model: a folder, a `.gguf` file, `package:NAME` or a hub id (see `hub.locate`).

    Args:
        source: where it is.
        revision: branch, tag or commit of a hub id.
        rows: of the embedding of the model it is to be used with; by default what the `config.json` beside it says.

    Raises:
        UserError: no such model, or no usable tokenizer in it.
    """
    from mentallama_jax.formats.locate import locate

    path = locate(source, revision, weights=False)
    if path.is_file():
        from mentallama_jax.formats.gguf import open_gguf
        from mentallama_jax.formats.tokenizers.gguf_tokenizer import gguf_tokenizer_files

        return Tokenizer(gguf_tokenizer_files(open_gguf(path).metadata, str(source)), str(source), rows)
    names = [name for name in (*TOKENIZER_FILES, *HINT_FILES) if (path / name).exists()]
    return Tokenizer({name: read_small(path / name) for name in names}, str(source), rows)


def _json_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _whole(value: Any) -> int | None:
    """The value where it is a number that can be an id or a count."""
    return value if type(value) is int and 0 <= value < 2**31 else None


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
