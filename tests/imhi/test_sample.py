"""The bundled sample: what its README promises."""

import importlib.util
import json
import re
from collections import Counter, defaultdict
from importlib import resources
from pathlib import Path

import pytest
import sentencepiece

from mentallama_jax.files import read_jsonl
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS

SAMPLE = Path(str(resources.files("mentallama_jax.imhi"))) / "sample"
MAKER = Path(__file__).parents[1] / "fixtures" / "make_sample_tokenizer.py"
KEYS = ["id", "dataset", "split", "post", "aspect", "label", "explanation"]
WORDS = {"apostrophes in words": re.compile(r"[a-z0-9'’]+"), "apostrophes between words": re.compile(r"[a-z0-9]+")}


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return read_records(["sample"], strict=True).records


def six_grams(post: str, words: re.Pattern[str]) -> set[tuple[str, ...]]:
    found = words.findall(post.lower())
    return {tuple(found[start : start + 6]) for start in range(len(found) - 5)}


def test_rows_have_the_documented_keys_and_ids_are_unique(records: list[Record]) -> None:
    for split in ("train", "val", "test"):
        for row in read_jsonl(SAMPLE / f"{split}.jsonl"):
            assert list(row) == KEYS
            assert row["split"] == split
            assert row["explanation"].strip()
    assert len({record.id for record in records}) == len(records) == 541


def test_more_than_300_posts_over_all_ten_data_sets_and_every_aspect(records: list[Record]) -> None:
    assert len({record.post_id for record in records}) == 417
    for split in ("train", "val", "test"):
        asked = {(record.dataset, record.aspect) for record in records if record.split == split}
        assert asked == {(task.name, aspect) for task in TASKS.values() for aspect in task.aspects or ("",)}


def test_a_post_has_one_data_set_and_split_and_each_question_once(records: list[Record]) -> None:
    places: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for record in records:
        places[record.post_id].add((record.dataset, record.split))
    assert {len(place) for place in places.values()} == {1}
    assert Counter(Counter((record.post_id, record.aspect) for record in records).values()).keys() == {1}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS.keys())
def test_no_test_post_shares_six_words_in_a_row_with_another_split(
    records: list[Record], words: re.Pattern[str]
) -> None:
    seen = {gram for record in records if record.split != "test" for gram in six_grams(record.post, words)}
    assert len(seen) > 5000
    shared = {record.id for record in records if record.split == "test" and six_grams(record.post, words) & seen}
    assert shared == set()


def test_labels_are_balanced(records: list[Record]) -> None:
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for record in records:
        counts[record.dataset, record.split][record.label] += 1
    for (dataset, split), of_label in counts.items():
        if split != "val":
            assert set(of_label) == set(TASKS[dataset].labels)
        share = 1 / len(TASKS[dataset].labels)
        assert max(of_label.values()) <= 1.25 * share * of_label.total() + 1, (dataset, split, of_label)


def test_the_vocabulary_has_the_settings_of_llama() -> None:
    tokenizer = load_tokenizer(SAMPLE / "tokenizer")
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id, tokenizer.special_id("<unk>")) == (1024, 1, 2, 0)
    for text in ("  two blanks, a tab\tand\n\nlines", "naïve 猫 🙂", "0123"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("0123", continues=True)) == 4


@pytest.mark.skipif(not sentencepiece.__version__.startswith("0.2."), reason="bit-equal within sentencepiece 0.2")
def test_the_vocabulary_is_made_again_bit_equal(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_sample_tokenizer", MAKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in (SAMPLE / "tokenizer").iterdir()}
    assert json.loads(made["tokenizer_config.json"])["tokenizer_class"] == "LlamaTokenizer"
