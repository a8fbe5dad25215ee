"""Files of models: config, weights, tokenizers."""

import io
import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import model_files
import numpy as np
import sentencepiece
from hostile import Files, Form, WrongError
from mutations import change_bytes, change_json

from mentallama_jax.errors import UserError
from mentallama_jax.formats.load import load_model, load_model_config
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer

Damage = Callable[[Files, random.Random], str]
TEXT = "I feel  low,\n\tagain </s> [INST] <|im_end|> \u2581 é\u0301 🙂" + " and again" * 20
_PLACES = {  # Hugging Face's name without the layer -> where the parameter is
    "model.embed_tokens": ("embedding",),
    "input_layernorm": ("layers", "attention_norm", "scale"),
    "self_attn.q_proj": ("layers", "attention", "query"),
    "self_attn.k_proj": ("layers", "attention", "key"),
    "self_attn.v_proj": ("layers", "attention", "value"),
    "self_attn.o_proj": ("layers", "attention", "output"),
    "post_attention_layernorm": ("layers", "mlp_norm", "scale"),
    "mlp.gate_proj": ("layers", "mlp", "gate"),
    "mlp.up_proj": ("layers", "mlp", "up"),
    "mlp.down_proj": ("layers", "mlp", "down"),
    "model.norm": ("final_norm", "scale"),
    "lm_head": ("head",),
}


def json_or_bytes(names: list[str], share: float = 0.75) -> Damage:
    """Damage to one of some JSON files, mostly to its structure."""

    def damage(files: Files, rng: random.Random) -> str:
        name = rng.choice(names)
        if rng.random() < share:
            files[name], what = change_json(json.loads(files[name]), rng)
        else:
            files[name], what = change_bytes(files[name], rng)
        return f"{name}: {what}"

    return damage


def model_forms() -> Iterator[Form]:
    """Every kind of file that a model consists of."""
    weights = model_files.tensors()
    whole = model_files.write_safetensors(weights)
    config = json.dumps(model_files.CONFIG).encode()
    yield Form("config", {"config.json": config}, json_or_bytes(["config.json"], 0.9), _read_config)
    folder = {"config.json": config, "model.safetensors": whole}
    yield Form("safetensors", folder, _damage_safetensors, _read_folder)
    yield Form("index", {"config.json": config, **_shards(weights)}, _damage_index, _read_folder)
    pieces = model_files.write_gguf()
    content = b"".join(piece for _, _, piece in pieces)
    yield Form("gguf", {"model.gguf": content}, partial(_damage_gguf, pieces), _read_gguf)
    fast = _fast_tokenizer()
    yield Form("tokenizer", fast, json_or_bytes([name for name in fast if name.endswith(".json")], 0.85), _read_tokens)
    slow = _sentencepiece_tokenizer()
    yield Form("sentencepiece", slow, _damage_sentencepiece, _read_tokens)


def _read_config(folder: Path) -> None:
    config = load_model_config(folder)
    said = model_files.strict_json((folder / "config.json").read_bytes())
    for ours, theirs in (
        ("vocab_size", "vocab_size"),
        ("hidden_size", "hidden_size"),
        ("intermediate_size", "intermediate_size"),
        ("num_layers", "num_hidden_layers"),
        ("num_heads", "num_attention_heads"),
        ("num_kv_heads", "num_key_value_heads"),
        ("head_dim", "head_dim"),
        ("max_positions", "max_position_embeddings"),
    ):
        value, given = getattr(config, ours), said.get(theirs)
        if given is not None and (isinstance(given, bool | str) or value != given or not 0 < value < 2**31):
            raise WrongError(f"{theirs} {given!r:.40} was read as {value!r:.40}")
    if config.rms_norm_eps != float(said["rms_norm_eps"]):
        raise WrongError(f"rms_norm_eps was read as {config.rms_norm_eps}")
    if said.get("tie_word_embeddings", False) is not config.tie_embeddings:
        raise WrongError(f"tie_word_embeddings {said.get('tie_word_embeddings')!r:.40} was read")
    numbers = [config.rope_theta, config.rms_norm_eps]
    if config.rope_scaling:
        numbers += [config.rope_scaling.factor, config.rope_scaling.original_max_positions or 1]
    if not all(0 < number < 3e38 for number in numbers):
        raise WrongError(f"numbers of no model: {numbers}")


def _damage_safetensors(files: Files, rng: random.Random) -> str:
    content = files["model.safetensors"]
    length = int.from_bytes(content[:8], "little")
    if rng.random() < 0.5:
        header, what = change_json(json.loads(content[8 : 8 + length]), rng)
        files["model.safetensors"] = model_files.frame(header, content[8 + length :])
    elif rng.random() < 0.3:
        size = rng.choice([0, 1, 7, length - 1, length + 1, 2**31, 2**40, 2**63, 2**64 - 1])
        files["model.safetensors"], what = size.to_bytes(8, "little") + content[8:], f"header of {size} bytes"
    else:
        first = rng.choice([8, length, None])
        files["model.safetensors"], what = change_bytes(content, rng, first)
    return what


def _shards(weights: dict[str, np.ndarray[Any, Any]]) -> dict[str, bytes]:
    names = list(weights)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    index = {"metadata": {"total_size": 1}, "weight_map": {n: shard for shard, part in parts.items() for n in part}}
    files = {shard: model_files.write_safetensors({n: weights[n] for n in part}) for shard, part in parts.items()}
    return {"model.safetensors.index.json": json.dumps(index).encode(), **files}


def _damage_index(files: Files, rng: random.Random) -> str:
    name = "model.safetensors.index.json"
    if rng.random() < 0.6:
        return json_or_bytes([name])(files, rng)
    index = json.loads(files[name])
    tensor = rng.choice(list(index["weight_map"]))
    other = rng.choice(["../x.safetensors", "/etc/passwd", "model-00001-of-00002.safetensors", "x/../config.json", ""])
    index["weight_map"][tensor] = rng.choice([other, "model-00002-of-00002.safetensors", "\x1b[31m", "config.json"])
    files[name] = json.dumps(index).encode()
    return f"{tensor} in {index['weight_map'][tensor]!r}"


def _read_folder(folder: Path) -> None:
    with jax.disable_jit():
        _, params = load_model(folder)
    expected: dict[str, np.ndarray[Any, Any]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            found = model_files.read_safetensors(path.read_bytes())
        except (ValueError, KeyError, TypeError) as error:
            raise WrongError(f"damaged weights were read ({error})") from None
        if expected.keys() & found.keys():
            raise WrongError("a tensor that two files hold was read")
        expected |= found
    index = folder / "model.safetensors.index.json"
    if index.exists():
        said = model_files.strict_json(index.read_bytes())["weight_map"]
        if set(said) != set(expected):
            raise WrongError("an index that lists other tensors than its shards hold was read")
        for name, shard in said.items():
            if name not in model_files.read_safetensors((folder / shard).read_bytes()):
                raise WrongError(f"the index has {name} in another shard")
    _compare(params, expected, lambda name, value: value)


def _compare(params: Any, expected: dict[str, np.ndarray[Any, Any]], change: Callable[[str, Any], Any]) -> None:
    for name in model_files.shapes():
        words = name.removesuffix(".weight").split(".")
        layer = int(words[2]) if words[1:2] == ["layers"] else None
        place: Any = params
        for key in _PLACES[".".join(words[3:] if layer is not None else words)]:
            place = place[key]
        ours = np.asarray(place if layer is None else place[layer], np.float32)
        theirs = change(name, expected[name].astype(np.float32))
        theirs = theirs.T if theirs.ndim == 2 and "embed" not in name else theirs
        if ours.tobytes() != np.ascontiguousarray(theirs).tobytes():
            raise WrongError(f"{name} was read as other numbers")


def _damage_gguf(pieces: model_files.Pieces, files: Files, rng: random.Random) -> str:
    if rng.random() < 0.75:
        files["model.gguf"], what = model_files.change_gguf(pieces, rng)
    else:
        head = sum(len(content) for record, _, content in pieces if record != "data")
        files["model.gguf"], what = change_bytes(files["model.gguf"], rng, rng.choice([head, head, None]))
    return what


def _read_gguf(folder: Path) -> None:
    problems = []
    try:
        _use_tokenizer(folder / "model.gguf")
    except UserError as error:
        problems.append(error)
    with jax.disable_jit():
        config, params = load_model(folder / "model.gguf")
    try:
        metadata, expected = model_files.read_gguf((folder / "model.gguf").read_bytes())
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise WrongError(f"a damaged file was read ({error})") from None
    expected = {name: expected[model_files.gguf_name(name)] for name in model_files.shapes()}

    def half_split(name: str, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if "q_proj" not in name and "k_proj" not in name:
            return rows
        heads = rows.reshape(-1, config.head_dim, rows.shape[1])
        return np.concatenate([heads[:, 0::2], heads[:, 1::2]], axis=1).reshape(rows.shape)

    _compare(params, expected, half_split)
    for ours, theirs in (("max_positions", "context_length"), ("num_layers", "block_count")):
        if metadata[f"llama.{theirs}"] != getattr(config, ours):
            raise WrongError(f"{theirs} was read as {getattr(config, ours)}")
    if not all(0 < number < 3e38 for number in (config.rope_theta, config.rms_norm_eps)):
        raise WrongError(f"numbers of no model: {config}")
    if problems:
        raise problems[0]


def _fast_tokenizer() -> dict[str, bytes]:
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocabulary = {piece: place for place, piece in enumerate(model_files.VOCABULARY)} | {"ab": 288, "cd": 289}
    made = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("c", "d")], unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens(["<unk>", "<s>", "</s>", "<|im_end|>"])
    added = {"content": "<|im_end|>", "lstrip": False, "normalized": False, "rstrip": False, "special": True}
    config = {
        "tokenizer_class": "LlamaTokenizerFast",
        "add_bos_token": True,
        "bos_token": {"__type": "AddedToken", **added, "content": "<s>"},
        "eos_token": "</s>",
        "pad_token": None,
        "model_max_length": 1000,
        "added_tokens_decoder": {"290": added},
        "chat_template": [{"name": "default", "template": "{{ bos_token }}"}],
    }
    special = {"bos_token": "<s>", "eos_token": {**added, "content": "</s>"}, "unk_token": "<unk>"}
    texts = {
        "tokenizer.json": made.to_str(),
        "tokenizer_config.json": json.dumps(config),
        "special_tokens_map.json": json.dumps(special),
        "added_tokens.json": json.dumps({"<|im_end|>": 290}),
        "generation_config.json": json.dumps({"bos_token_id": 1, "eos_token_id": [2, 290], "pad_token_id": 0}),
        "config.json": json.dumps(model_files.CONFIG | {"vocab_size": 300}),
    }
    return {name: text.encode() for name, text in texts.items()}


def _sentencepiece_tokenizer() -> dict[str, bytes]:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT, "nothing helps any more", "a better week than the last one"] * 3),
        model_writer=model, model_type="bpe", vocab_size=320, byte_fallback=True, num_threads=1, minloglevel=2,
        normalization_rule_name="identity", remove_extra_whitespaces=False, hard_vocab_limit=False,
    )  # fmt: skip
    fast = _fast_tokenizer()
    names = ("special_tokens_map.json", "generation_config.json")
    count = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).get_piece_size()
    config = json.loads(fast["tokenizer_config.json"])
    config["added_tokens_decoder"] = {str(count): config["added_tokens_decoder"]["290"]}
    return {
        "tokenizer.model": model.getvalue(),
        "tokenizer_config.json": json.dumps(config).encode(),
        "added_tokens.json": json.dumps({"<|im_end|>": count}).encode(),
        "chat_template.jinja": b"{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
        "config.json": json.dumps(model_files.CONFIG | {"vocab_size": count + 1}).encode(),
        **{name: fast[name] for name in names},
    }


def _damage_sentencepiece(files: Files, rng: random.Random) -> str:
    name = rng.choice(["tokenizer.model", "tokenizer.model", "chat_template.jinja", ".json", ".json"])
    if name == ".json":
        return json_or_bytes([key for key in files if key.endswith(".json")])(files, rng)
    files[name], what = change_bytes(files[name], rng)
    return f"{name}: {what}"


def _read_tokens(folder: Path) -> None:
    _use_tokenizer(folder)


def _use_tokenizer(place: Path) -> None:
    tokenizer = load_tokenizer(place)
    ids = tokenizer.encode(TEXT)
    more = tokenizer.encode_batch([TEXT, "", " x"], continues=True)
    tokenizer.decode(ids)
    tokenizer.decode([0, tokenizer.eos_id, 10**6])
    for token in ("<s>", "<|im_end|>", "none"):
        try:
            tokenizer.special_id(token)
        except UserError:
            continue
    named = {"eos": tokenizer.eos_id, "pad": tokenizer.pad_id, "bos": tokenizer.bos_id or 0}
    for role, id_ in named.items():
        if type(id_) is not int or not 0 <= id_ < max(tokenizer.vocab_size, 2):
            raise WrongError(f"{role} is {id_!r:.40} of {tokenizer.vocab_size}")
    if not all(0 <= id_ < tokenizer.vocab_size for row in (ids, *more) for id_ in row) or tokenizer.vocab_size > 2**24:
        raise WrongError(f"ids beyond a vocabulary of {tokenizer.vocab_size}")
    if not isinstance(tokenizer.chat_template, str | None):
        raise WrongError(f"the chat template is a {type(tokenizer.chat_template).__name__}")
    tokenizer.save(place.parent / f"{place.name}-saved")


jnp.zeros(1)  # start the backend before memory is measured
