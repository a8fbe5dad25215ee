"""Tokenising once: targets by count, cuts in the post alone, and a cache that survives what disks and processes do."""

import errno
import multiprocessing
import re
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax import chat, imhi
from mentallama_jax.errors import UserError
from mentallama_jax.imhi import prompts
from mentallama_jax.imhi.prompts import Encoded, encode_example, encode_prompt
from mentallama_jax.imhi.records import Record
from mentallama_jax.training.data.batches import evaluation_batches
from mentallama_jax.training.data.tokens import TokenStore, tokenize

EOS = 2


class WordTokenizer:
    """A token a word or mark, with a hash for an id."""

    bos_id = 1
    eos_id = EOS
    chat_template = None
    fingerprint = "words"

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        return [3 + zlib.crc32(word.encode()) % 4000 for word in re.findall(r"\w+|[^\w\s]", text)]

    def special_id(self, token: str) -> int:
        raise UserError(f"no token {token}")


def make_records(count: int, words: int = 12) -> list[Record]:
    return [
        Record(
            id=f"dreaddit/train/{number}",
            dataset="dreaddit",
            post=" ".join(f"w{number}x{word}" for word in range(words + number % 5)),
            label="yes" if number % 2 else "no",
            explanation=f"The post number {number} speaks of a heavy week.",
            source=f"train.csv:{number}",
        )
        for number in range(count)
    ]


def build(records: list[Record], cache: Path, style: Any = "plain", max_length: int = 128) -> TokenStore:
    return tokenize(records, style, WordTokenizer(), max_length, cache)


def examples_of(store: TokenStore) -> list[list[int]]:
    return [part.tolist() for part in np.split(store.tokens, store.offsets[1:-1])]


def prompt_lengths(store: TokenStore) -> list[int]:
    """Tokens before the first target of each example."""
    return [int(np.argmax(part)) for part in np.split(store.targets, store.offsets[1:-1])]


def assert_same(one: TokenStore, other: TokenStore) -> None:
    assert one.key == other.key
    assert one.ids == other.ids
    for name in ("tokens", "offsets", "targets", "truncated"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture
def never_encode(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Encoded:
        raise AssertionError("tokenised although cached")

    monkeypatch.setattr(prompts, "encode_example", fail)


def test_store_holds_what_the_renderer_makes(tmp_path: Path) -> None:
    records = make_records(7)
    store = build(records, tmp_path)
    encoded = [encode_example(record, "plain", WordTokenizer(), 128) for record in records]
    assert len(store) == 7
    assert store.ids == tuple(record.id for record in records)
    assert examples_of(store) == [example.tokens for example in encoded]
    assert store.lengths.tolist() == [len(example.tokens) for example in encoded]
    assert prompt_lengths(store) == [example.targets[0][0] for example in encoded]
    assert store.target_counts.tolist() == [stop - start for example in encoded for start, stop in example.targets]
    assert (store.tokens.dtype, store.offsets.dtype, store.lengths.dtype) == (np.int32, np.int64, np.int64)
    assert store.truncated_examples == store.truncated_tokens == 0


def test_training_and_generation_share_the_prompt_and_the_end_is_a_target(tmp_path: Path) -> None:
    records = make_records(3)
    for record, tokens, prompt_length in zip(
        records, examples_of(store := build(records, tmp_path)), prompt_lengths(store), strict=True
    ):
        assert tokens[:prompt_length] == encode_prompt(record, "plain", WordTokenizer(), 128).tokens
        assert tokens.count(WordTokenizer.bos_id) == 1
        assert tokens[-1] == EOS
        assert prompt_length < len(tokens) - 1


def test_long_posts_are_cut_and_counted_but_answers_stay(tmp_path: Path) -> None:
    records = [*make_records(2), replace(make_records(1)[0], id="long", post="word " * 500)]
    whole = build(records, tmp_path, max_length=1024)
    cut = build(records, tmp_path, max_length=64)
    assert cut.lengths.max() <= 64
    answer = examples_of(whole)[2][prompt_lengths(whole)[2] :]
    assert examples_of(cut)[2][prompt_lengths(cut)[2] :] == answer
    assert (cut.truncated_examples, whole.truncated_examples) == (1, 0)
    assert cut.truncated_tokens == whole.lengths[2] - cut.lengths[2] > 400
    assert examples_of(cut)[:2] == examples_of(whole)[:2]


@pytest.mark.parametrize("targets", [(), ((0, 3),), ((1, 4),)])
def test_example_without_target_or_prompt_is_named(
    targets: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "encode_example", lambda record, *_: Encoded([5, 6, 2], targets, 0))
    with pytest.raises(UserError, match=r"train\.csv:0"):
        build(make_records(2), tmp_path)
    assert list(tmp_path.iterdir()) == []


@st.composite
def spans_of_an_example(draw: st.DrawFn) -> Encoded:
    """An example of several stretches to learn, such as the answers of a conversation."""
    parts = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4))
    spans, end = [], 0
    for asked, answered in parts:
        spans.append((end + asked, end + asked + answered))
        end = spans[-1][1]
    length = end + draw(st.integers(0, 3))
    return Encoded(list(range(3, 3 + length)), tuple(spans), 0)


@settings(max_examples=25)
@given(examples=st.lists(spans_of_an_example(), min_size=1, max_size=6))
def test_several_stretches_of_targets_are_those_of_the_batch(examples: list[Encoded]) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        given_one = iter(examples)
        patch.setattr(prompts, "encode_example", lambda *_: next(given_one))
        stores = [build(make_records(len(examples)), Path(folder)) for _ in range(2)]  # made, then read
    for store in stores:
        wanted = [[any(a <= t < b for a, b in e.targets) for t in range(len(e.tokens))] for e in examples]
        assert store.targets.tolist() == [flag for flags in wanted for flag in flags]
        assert store.target_counts.tolist() == [sum(flags) for flags in wanted]
        (batch,) = evaluation_batches(store, 1, 256)
        mask, segments = batch.arrays["loss_mask"][0], batch.arrays["segment_ids"][0]
        order = [np.flatnonzero(segments == number + 1) for number in range(len(examples))]
        assert [mask[places].tolist() for places in order] == [
            [int(flag) for flag in wanted[example]] for example in batch.examples
        ]
        assert batch.target_tokens == sum(map(sum, wanted)) == mask.sum()


def test_no_records_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no examples"):
        build([], tmp_path)


@pytest.mark.usefixtures("never_encode")
class TestCached:
    @pytest.fixture
    def built(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenStore:
        with monkeypatch.context() as patch:
            patch.setattr(prompts, "encode_example", encode_example)
            return build(make_records(9), tmp_path)

    def test_second_call_reads_and_maps(self, built: TokenStore, tmp_path: Path) -> None:
        cached = build(make_records(9), tmp_path)
        assert_same(built, cached)
        assert isinstance(cached.tokens, np.memmap)

    def test_everything_that_decides_a_token_is_in_the_key(self, built: TokenStore, tmp_path: Path) -> None:
        records = make_records(9)
        for changed in (
            records[::-1],
            records[:8],
            [replace(records[0], post=records[0].post + " more"), *records[1:]],
            [replace(records[0], label="yes"), *records[1:]],
            [replace(records[0], explanation=""), *records[1:]],
            [replace(records[0], dataset="DR"), *records[1:]],
            [replace(records[0], id="other"), *records[1:]],
        ):
            with pytest.raises(AssertionError, match="although cached"):
                build(changed, tmp_path)
        for style, max_length in (("completion", 128), ("plain", 127)):
            with pytest.raises(AssertionError, match="although cached"):
                build(records, tmp_path, style, max_length)
        other = WordTokenizer()
        other.fingerprint = "others"
        with pytest.raises(AssertionError, match="although cached"):
            tokenize(records, "plain", other, 128, tmp_path)

    def test_renderer_code_is_in_the_key(
        self, built: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number, (package, file) in enumerate(((chat, "segments.py"), (imhi, "labels/gold_response.py"))):
            copy = tmp_path / f"copy{number}"
            shutil.copytree(Path(package.__file__).parent, copy)
            with monkeypatch.context() as patch:
                patch.setattr(package, "__file__", str(copy / "__init__.py"))
                build(make_records(9), tmp_path)  # the same files elsewhere
                with (copy / file).open("a") as stream:
                    stream.write("# changed\n")
                with pytest.raises(AssertionError, match="although cached"):
                    build(make_records(9), tmp_path)


def cache_files(folder: Path) -> list[Path]:
    files = sorted(folder.iterdir())
    assert [path.name.split(".", 1)[1] for path in files] == ["examples.npy", "json", "targets.npy", "tokens.npy"]
    return files


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("which", [0, 1, 2, 3])
@pytest.mark.parametrize("harm", [cut_short, cut_to_nothing, flip_a_bit, Path.unlink])
def test_damaged_cache_is_made_again(harm: Any, which: int, tmp_path: Path) -> None:
    built = build(make_records(9), tmp_path)
    files = cache_files(tmp_path)
    before = [path.read_bytes() for path in files]
    harm(files[which])
    assert_same(built, build(make_records(9), tmp_path))
    assert [path.read_bytes() for path in cache_files(tmp_path)] == before


def test_a_reader_keeps_what_it_mapped_while_the_file_is_made_again(tmp_path: Path) -> None:
    build(make_records(9), tmp_path)
    mapped = build(make_records(9), tmp_path)
    examples = examples_of(mapped)
    cache_files(tmp_path)[1].unlink()
    build(make_records(9), tmp_path)
    assert examples_of(mapped) == examples


def _tokenize_repeatedly(folder: str, start: Any, results: Any) -> None:
    start.wait()
    for _ in range(5):
        store = build(make_records(200), Path(folder))
        results.put(zlib.crc32(store.tokens.tobytes()))
        for path in Path(folder).glob("*.json"):
            path.unlink(missing_ok=True)


@pytest.mark.long
def test_processes_share_a_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_tokenize_repeatedly, args=(str(tmp_path), start, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = {results.get(timeout=120) for _ in range(10)}
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert found == {zlib.crc32(build(make_records(200), tmp_path / "alone").tokens.tobytes())}


def test_full_disk_is_a_user_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(stream: BinaryIO, values: np.ndarray) -> None:
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match=r"No space left.*data\.cache_dir"):
        build(make_records(3), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_folder_that_is_a_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(UserError, match=r"data\.cache_dir"):
        build(make_records(3), tmp_path / "cache")
