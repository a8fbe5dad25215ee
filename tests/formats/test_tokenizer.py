import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st
from small_models import SAMPLE_TOKENIZER

from mentallama_jax.errors import UserError
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.formats.tokenizers.tokenizer_checks import may_search_without_end

POST = "I can't sleep.  It's 3am </s> again \U0001f62d\n\n<s>na\u00efve \u4f60\u597d"
BYTES = st.integers(3, 258)
"""The tokens of single bytes in the sample's tokenizer."""
WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1), min_size=1)


def files_of(tokenizer: Tokenizer, folder: Path) -> dict[str, bytes]:
    tokenizer.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def json_files(tokenizer: Tokenizer, tmp_path: Path) -> dict[str, bytes]:
    """A tokenizer.json that stands alone."""
    return {"tokenizer.json": files_of(tokenizer, tmp_path)["tokenizer.json"]}


@pytest.fixture(scope="module")
def processor() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(SAMPLE_TOKENIZER / "tokenizer.model"))


@given(text=st.text(st.characters(codec="utf-8")))
def test_ids_are_those_of_sentencepiece(tokenizer: Tokenizer, processor, text: str) -> None:
    assert tokenizer.encode(text) == processor.encode(text)


@given(ids=st.lists(st.one_of(BYTES, st.integers(3, 1023))))
@example(ids=[840, 31, 186, 833])
def test_the_text_of_any_ids_is_that_of_sentencepiece(tokenizer: Tokenizer, processor, ids: list[int]) -> None:
    assert tokenizer.decode(ids) == processor.decode(ids)


@given(ids=st.lists(st.one_of(BYTES, st.integers(0, 1100))), data=st.data())
@example(ids=[840, 31, 186, 833], data=None)
def test_later_tokens_change_no_text_but_half_a_character(tokenizer: Tokenizer, ids: list[int], data) -> None:
    cuts = range(len(ids)) if data is None else [data.draw(st.integers(0, len(ids)))]
    for cut in cuts:
        assert tokenizer.decode(ids).startswith(tokenizer.decode(ids[:cut]).rstrip("\ufffd"))


@pytest.mark.parametrize("spaces", range(1, 40))
def test_runs_of_spaces_are_cut_as_by_sentencepiece(tokenizer: Tokenizer, processor, spaces: int) -> None:
    text = "a" + " " * spaces + "b"
    assert tokenizer.encode(text) == processor.encode(text)


@given(prompt=WORDS.map(" ".join), answer=WORDS.map(" ".join))
def test_a_text_that_continues_joins_without_a_seam(tokenizer: Tokenizer, prompt: str, answer: str) -> None:
    joined = tokenizer.encode(prompt) + tokenizer.encode(" " + answer, continues=True)
    assert joined == tokenizer.encode(f"{prompt} {answer}")


def test_a_text_that_continues_has_no_dummy_space(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("x", continues=True) * 2) == "xx"
    assert tokenizer.encode_batch(["x", " y"], continues=True) == [
        tokenizer.encode("x", continues=True),
        tokenizer.encode(" y", continues=True),
    ]


def test_post_text_never_becomes_a_special_token(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(POST)
    assert not {tokenizer.bos_id, tokenizer.eos_id, tokenizer.special_id("<unk>")} & set(ids)
    assert tokenizer.decode(ids) == POST


def test_added_tokens_are_never_read_from_text_even_if_not_marked_special(json_files: dict[str, bytes]) -> None:
    spec = json.loads(json_files["tokenizer.json"])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    spec["added_tokens"].append({"id": 1024, "content": "[INST]", "special": False, **flags})
    tokenizer = Tokenizer({"tokenizer.json": json.dumps(spec).encode()}, "here")
    assert tokenizer.special_id("[INST]") == 1024
    assert 1024 not in tokenizer.encode("a [INST] b")
    assert tokenizer.decode(tokenizer.encode("a [INST] b")) == "a [INST] b"


def test_decode_leaves_special_and_unknown_ids_out(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.bos_id, *tokenizer.encode("well"), tokenizer.eos_id, tokenizer.pad_id, 999_999]
    assert tokenizer.decode(ids) == "well"


def test_llama_ids(tokenizer: Tokenizer) -> None:
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.vocab_size) == (1, 2, 0, 1024)


def test_saved_files_give_the_same_tokenizer_to_us_and_to_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in (POST.replace("</s>", "").replace("<s>", ""), " leading", "two  spaces   three", ""):
        assert theirs(text).input_ids == [tokenizer.bos_id, *tokenizer.encode(text)]
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (1, 2, 0)


def test_a_copy_by_pickle_is_the_same(tokenizer: Tokenizer) -> None:
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode(POST) == tokenizer.encode(POST)


def test_the_fingerprint_changes_with_what_decides_ids(json_files: dict[str, bytes]) -> None:
    def fingerprint(**config: object) -> str:
        return Tokenizer({**json_files, "tokenizer_config.json": json.dumps(config).encode()}, "here").fingerprint

    plain = fingerprint(eos_token="</s>")
    assert plain == fingerprint(eos_token="</s>", model_max_length=5)
    assert plain != fingerprint(eos_token="<s>")
    spec = json.loads(json_files["tokenizer.json"])
    spec["model"]["merges"].reverse()
    assert plain != Tokenizer({"tokenizer.json": json.dumps(spec).encode()}, "here").fingerprint


@pytest.mark.parametrize(
    ("config", "others", "expected"),
    [
        ({"eos_token": "</s>", "pad_token": "</s>"}, {}, (1, 2, 0)),  # pad = eos would hide the end of the answer
        ({"eos_token": {"content": "</s>"}, "pad_token": "<s>"}, {}, (1, 2, 1)),
        ({"eos_token": "</s>", "add_bos_token": False}, {}, (None, 2, 0)),
        ({"eos_token": "<unk>", "unk_token": None}, {}, (1, 0, 1)),
        ({}, {"special_tokens_map.json": {"eos_token": "<s>"}}, (1, 1, 0)),
        ({}, {"generation_config.json": {"eos_token_id": [5, 6]}}, (1, 5, 0)),
        # The embedding has 1,000 rows: id 1,023 must not be used to fill up.
        ({"pad_token": "PIECE_1023"}, {"config.json": {"vocab_size": 1000}}, (1, 2, 0)),
    ],
)
def test_special_ids_come_from_the_files_in_order(
    json_files: dict[str, bytes], tokenizer: Tokenizer, tmp_path: Path, config: dict, others: dict, expected: tuple
) -> None:
    piece = next(p for p, i in json.loads(json_files["tokenizer.json"])["model"]["vocab"].items() if i == 1023)
    config = {key: piece if value == "PIECE_1023" else value for key, value in config.items()}
    contents = {"tokenizer_config.json": config, **others}
    files = json_files | {name: json.dumps(value).encode() for name, value in contents.items()}
    made = Tokenizer(files, "here")
    assert (made.bos_id, made.eos_id, made.pad_id) == expected
    made.save(tmp_path / "copy")
    copy = load_tokenizer(tmp_path / "copy")
    assert (copy.bos_id, copy.eos_id, copy.pad_id) == expected
    assert copy.fingerprint == made.fingerprint


def test_chat_template_from_each_place(json_files: dict[str, bytes]) -> None:
    named = {"chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]}
    for config, jinja, expected in (({"chat_template": "c"}, None, "c"), (named, None, "d"), ({}, b"j", "j")):
        files = json_files | {"tokenizer_config.json": json.dumps(config).encode()}
        if jinja is not None:
            files["chat_template.jinja"] = jinja
        assert Tokenizer(files, "here").chat_template == expected


def test_a_token_that_is_not_there(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"no token <ss>; did you mean <s>\?"):
        tokenizer.special_id("<ss>")


def test_a_token_without_an_embedding(json_files: dict[str, bytes]) -> None:
    files = {**json_files, "config.json": b'{"vocab_size": 2, "eos_token_id": 1}'}
    with pytest.raises(UserError, match="token </s> has id 2, but the model has 2 embeddings"):
        Tokenizer(files, "here").special_id("</s>")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "no tokenizer.json or tokenizer.model"),
        ({"tokenizer.json": b"{"}, "tokenizer.json: not valid JSON"),
        ({"tokenizer.json": b"[]"}, "tokenizer.json holds no JSON object"),
        ({"tokenizer.json": b"{}"}, "tokenizer.json cannot be read"),
        ({"tokenizer.model": b"half a file"}, "not a SentencePiece model"),
    ],
)
def test_bad_files_are_named(files: dict[str, bytes], reason: str) -> None:
    with pytest.raises(UserError, match=f"^here: .*{reason}"):
        Tokenizer(files, "here")


def test_a_sentencepiece_model_of_another_kind_is_refused() -> None:
    import io

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["consider this post and the other one"] * 5),
        model_writer=model,
        model_type="unigram",
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with pytest.raises(UserError, match="only SentencePiece models of LLaMA's kind"):
        Tokenizer({"tokenizer.model": model.getvalue()}, "here")


def test_no_eos_is_an_error(json_files: dict[str, bytes]) -> None:
    text = json_files["tokenizer.json"].decode().replace('"</s>"', '"<end>"')
    with pytest.raises(UserError, match="no eos_token is named"):
        Tokenizer({"tokenizer.json": text.encode()}, "here")


def test_loading_a_tokenizer_is_light() -> None:
    code = (
        "import sys; from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer;"
        f"load_tokenizer({str(SAMPLE_TOKENIZER)!r});"
        "print([m for m in ('jax', 'transformers', 'torch', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def train_sentencepiece(symbols: list[str]) -> bytes:
    import io

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["consider this sleepless post and the other sleeping one"] * 9),
        model_writer=model,
        model_type="bpe",
        vocab_size=330,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=symbols,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def test_a_user_defined_piece_inside_words_is_refused() -> None:
    Tokenizer({"tokenizer.model": train_sentencepiece([])}, "here")
    with pytest.raises(UserError, match=r"^here: tokenizer\.model: piece 'sleep' is user-defined, but no marker"):
        Tokenizer({"tokenizer.model": train_sentencepiece(["sleep"])}, "here")


def test_a_user_defined_marker_is_a_special_token_and_all_else_is_as_by_sentencepiece() -> None:
    model = train_sentencepiece(["<|im_end|>", "[INST]"])
    tokenizer = Tokenizer({"tokenizer.model": model}, "here")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    for text in ("consider sleep", "sleepless  in 2024", "the <|im_start|> post"):
        assert tokenizer.encode(text) == processor.encode(text)
    marker = tokenizer.special_id("<|im_end|>")
    assert marker in processor.encode("a <|im_end|> b")
    assert marker not in tokenizer.encode("a <|im_end|> b")
    assert tokenizer.decode(tokenizer.encode("a <|im_end|> b")) == "a <|im_end|> b"


def replace_all(text: str, by: str) -> dict:
    return {"type": "Replace", "pattern": {"String": text}, "content": by}


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
@pytest.mark.parametrize(
    "members",
    [
        [replace_all("a", "aaaa")] * 30,
        [{"type": "Prepend", "prepend": "a" * 5000}],
        [{"type": "Prepend", "prepend": "a"}, *[replace_all("a", "aa")] * 40],
        [{"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}],
        [{"type": "Replace", "pattern": {"Regex": ""}, "content": "b" * 100}],
        [{"type": "Replace", "pattern": {"String": ""}, "content": "b"}],
        3,
        [3],
        [{"type": "NFC"}, {"type": "Sequence", "normalizers": 3, "decoders": 3}],
    ],
)
def test_a_tokenizer_that_expands_text_without_end_is_refused(json_files: dict, part: str, members: object) -> None:
    kind = {"normalizer": "normalizers", "decoder": "decoders"}[part]
    spec = json.loads(json_files["tokenizer.json"]) | {part: {"type": "Sequence", kind: members}}
    with pytest.raises(UserError, match=rf"^here: tokenizer\.json: {part}\b"):
        Tokenizer({"tokenizer.json": json.dumps(spec).encode()}, "here")


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(?:a|aa)+b", "((a*)b)*", "(x+){2,}", "(\\w+\\s?)*$", "(a{1,})*", "(a+){50}"]
)
def test_a_pattern_that_searches_without_end_is_refused(json_files: dict, pattern: str) -> None:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    for part in (split, {"type": "Sequence", "pretokenizers": [split]}):
        spec = json.loads(json_files["tokenizer.json"]) | {"pre_tokenizer": part}
        with pytest.raises(UserError, match="whose search could take time without end"):
            Tokenizer({"tokenizer.json": json.dumps(spec).encode()}, "here")


@pytest.mark.parametrize(
    "pattern",
    [
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{Lm}]+(?i:'s|'t)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+",
        r"[a\](]+[+*)]+\(+\)+(?:ab)?[^]a]+",
    ],
)
def test_patterns_of_real_tokenizers_pass(pattern: str) -> None:
    assert not may_search_without_end(pattern)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenizer.json", {"added_tokens": 3}),
        ("tokenizer.json", {"added_tokens": [3]}),
        ("tokenizer.json", {"added_tokens": [{"id": "3", "content": "<x>"}]}),
        ("tokenizer.json", {"added_tokens": [{"id": 1024, "content": 3}]}),
        ("tokenizer.json", {"added_tokens": [{"id": -1, "content": "<x>"}]}),
        ("tokenizer.json", {"added_tokens": [{"id": 2**40, "content": "<x>"}]}),
        ("tokenizer.json", {"model": 3}),
        ("tokenizer.json", {"model": {"type": "BPE", "vocab": [], "merges": {}}}),
        ("tokenizer.json", {"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}),
        ("tokenizer.json", {"normalizer": 3}),
        ("tokenizer.json", {"pre_tokenizer": [3]}),
        ("tokenizer.json", {"post_processor": 3}),
        ("tokenizer_config.json", {"chat_template": 3}),
        ("tokenizer_config.json", {"chat_template": {"a": "b"}}),
    ],
)
def test_wrong_types_are_refused_with_the_file(json_files: dict, name: str, value: dict) -> None:
    base = json.loads(json_files["tokenizer.json"]) if name == "tokenizer.json" else {}
    files = json_files | {name: json.dumps(base | value).encode()}
    with pytest.raises(UserError, match=f"^here: .*{name}") as raised:
        Tokenizer(files, "here")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("odd", [3, -1, 1.5, None, True, "x", [], [1], {}, {"content": 3}, [[1]], 2**70])
@pytest.mark.parametrize("key", ["eos_token", "bos_token", "pad_token", "unk_token", "add_bos_token", "eos_token_id"])
def test_odd_values_of_special_tokens_never_end_in_a_traceback(json_files: dict, key: str, odd: object) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "config.json"):
        files = json_files | {name: json.dumps({key: odd, "vocab_size": odd}).encode()}
        if key == "eos_token_id" and name in ("generation_config.json", "config.json") and not _may_be_ids(odd):
            with pytest.raises(UserError, match=rf"^here: {name} has eos_token_id"):
                Tokenizer(files, "here")
        else:
            assert 0 <= Tokenizer(files, "here").eos_id < 1024


def _may_be_ids(value: object) -> bool:
    return value is None or all(
        type(id_) is int and id_ >= 0 for id_ in (value if isinstance(value, list) else [value])
    )


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("added_tokens.json", {"<x>": "3"}),
        ("added_tokens.json", {"<x>": None}),
        ("added_tokens.json", {"<x>": -1}),
        ("added_tokens.json", {"": 3}),
        ("tokenizer_config.json", {"added_tokens_decoder": [3]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"a": {"content": "<x>"}}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"1024": "<x>"}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"1024": {"content": 3}}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9" * 5000: {"content": "<x>"}}}),
    ],
)
def test_added_tokens_of_wrong_types(file: str, value: dict) -> None:
    files = {"tokenizer.model": (SAMPLE_TOKENIZER / "tokenizer.model").read_bytes(), file: json.dumps(value).encode()}
    with pytest.raises(UserError, match=r"^here: "):
        Tokenizer(files, "here")


def test_dropout_would_make_ids_random(json_files: dict) -> None:
    spec = json.loads(json_files["tokenizer.json"])
    spec["model"]["dropout"] = 0.1
    with pytest.raises(UserError, match=r"dropout '0\.1': ids would be random"):
        Tokenizer({"tokenizer.json": json.dumps(spec).encode()}, "here")


@pytest.mark.parametrize("role", ["pad", "bos", "unk", "eos"])
def test_a_special_token_beyond_the_models_rows_falls_back_and_is_said(
    json_files: dict, tmp_path: Path, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many copies of LLaMA 2 have it: `<pad>` with id 32000 for 32,000 embeddings."""
    spec = json.loads(json_files["tokenizer.json"])
    spec["added_tokens"].append({"id": 1024, "content": "<more>", "special": True, **FLAGS})
    files = {
        "tokenizer.json": json.dumps(spec).encode(),
        "tokenizer_config.json": json.dumps(
            {"eos_token": "</s>", "bos_token": "<s>", f"{role}_token": "<more>"}
        ).encode(),
        "config.json": b'{"vocab_size": 1024}',
    }
    made = Tokenizer(files, f"{tmp_path}")
    assert (made.bos_id, made.eos_id, made.pad_id, made.vocab_size) == (1, 2, 0, 1024)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(
        f"note: {tmp_path}: {role}_token '<more>' has id 1024, but the model has 1,024 embeddings; "
    )
    del files["config.json"]
    given = Tokenizer(files, "elsewhere", rows=1024)
    assert (given.bos_id, given.eos_id, given.pad_id, given.vocab_size) == (1, 2, 0, 1024)
    made.save(tmp_path)
    copy = load_tokenizer(tmp_path)
    assert (copy.bos_id, copy.eos_id, copy.pad_id, copy.fingerprint) == (1, 2, 0, made.fingerprint)
    assert pickle.loads(pickle.dumps(given)).vocab_size == 1024


def test_a_sentencepiece_model_with_a_hole_is_refused() -> None:
    """Bytes set to zero, as a broken download leaves them."""
    whole = (SAMPLE_TOKENIZER / "tokenizer.model").read_bytes()
    for start in range(0, len(whole), 700):
        holed = whole[:start] + bytes(len(whole[start : start + 1200])) + whole[start + 1200 :]
        with pytest.raises(UserError, match=r"^here: "):
            Tokenizer({"tokenizer.model": holed}, "here")
