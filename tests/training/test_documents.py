"""Documents as tokens: pieces, masks, the mixture with records, leaks, memory, and losses against plain ones."""

import json
import tracemalloc
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.imhi.data_files import text_documents
from mentallama_jax.imhi.data_files.text_documents import TextLayout, find_texts
from mentallama_jax.models.llama import LlamaConfig, forward
from mentallama_jax.models.module import init_params
from mentallama_jax.training.data import documents as documents_module
from mentallama_jax.training.data.batches import evaluation_batches
from mentallama_jax.training.data.documents import instruction_order, load_documents, pieces, take_documents
from mentallama_jax.training.data.examples import load_examples
from mentallama_jax.training.data.tokens import TokenStore
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.run.run_directory import data_fingerprint
from mentallama_jax.training.step import make_eval_step

LENGTH = 16
TEXTS = [
    "The river is quiet.",
    "a " * 40 + "long one",
    "ok",
    "Rain falls on the old bridge all evening, and people walk on.",
]
MODEL = LlamaConfig(
    vocab_size=1024,
    hidden_size=16,
    intermediate_size=32,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    rope_scaling=None,
    tie_embeddings=True,
    max_positions=64,
)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(Path(str(resources.files("mentallama_jax.imhi"))) / "sample" / "tokenizer")


class Bytes:
    """A tokenizer of bytes, with or without BOS."""

    fingerprint, eos_id = "bytes", 1

    def __init__(self, bos_id: int | None = 0) -> None:
        self.bos_id = bos_id

    def encode_batch(self, texts):
        return [[byte + 2 for byte in text.encode()] for text in texts]


def corpus(folder: Path, texts) -> list:
    folder.mkdir(exist_ok=True)
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return find_texts([str(path)], pytest.fail)


def load(folder: Path, texts, tokenizer, **options):
    return load_documents(corpus(folder, texts), TextLayout(), tokenizer, LENGTH, folder / "cache", **options)


def examples_of(store: TokenStore) -> list[list[int]]:
    return [store.tokens[a:b].tolist() for a, b in zip(store.offsets, store.offsets[1:], strict=False)]


@given(st.integers(2, 400), st.integers(2, 50))
@settings(max_examples=60)
def test_every_token_but_the_first_is_a_target_of_exactly_one_piece(length, longest):
    spans = pieces(length, longest)
    assert [place for start, stop in spans for place in range(start + 1, stop)] == list(range(1, length))
    assert all(2 <= stop - start <= longest for start, stop in spans)


@pytest.mark.parametrize("bos", [0, None])
def test_documents_begin_and_end_as_the_tokenizer_says_and_pieces_share_a_token(tmp_path, bos):
    found = load(tmp_path, ["abc", "d" * 40], Bytes(bos))
    start = [] if bos is None else [bos]
    whole = [*start, *[ord("d") + 2] * 40, 1]
    first, *rest = examples_of(found.store)
    assert first == [*start, *(ord(letter) + 2 for letter in "abc"), 1]
    joined = rest[0] + [token for piece in rest[1:] for token in piece[1:]]
    assert joined == whole
    assert [piece[0] for piece in rest[1:]] == [piece[-1] for piece in rest[:-1]]
    assert not found.store.targets[found.store.offsets[:-1]].any()
    assert np.count_nonzero(found.store.targets) == len(found.store.tokens) - len(found.store)
    assert found.store.text_bytes == 43
    names = list(found.store.ids)
    assert names[0].endswith("texts.jsonl:1")
    assert names[1:] == [f"{tmp_path}/texts.jsonl:2, piece {n} of 3" for n in (1, 2, 3)]
    assert found.store.ids[-1] == names[-1]


@pytest.mark.long
def test_packed_documents_have_the_losses_of_pieces_that_stand_alone(tmp_path, tokenizer):
    """And these are those of a plain computation over the logits."""
    store = load(tmp_path, TEXTS, tokenizer).store
    values = {
        "model": {"source": "toy", "weights": "random", "compute_dtype": "float32", "remat": "none"},
        "data": {"train": ["text"], "max_length": 2 * LENGTH},
        "objective": {"kind": "documents"},
        "training": {"run_dir": "unused", "steps": 1},
    }
    params = init_params(MODEL, jax.random.key(0))
    step = make_eval_step(objective_of(MODEL, parse_config(values, "test")))
    sums = [
        step(params, {}, {k: v[None] for k, v in b.arrays.items()}) for b in evaluation_batches(store, 4, 2 * LENGTH)
    ]
    packed = np.array([[float(loss), float(weight)] for (loss, _), weight in sums]).sum(0)
    plain = jax.jit(lambda params, *arrays: forward(params, MODEL, *arrays))
    alone = np.zeros(2)
    for tokens in examples_of(store):
        row = np.zeros((1, LENGTH), np.int32)
        row[0, : len(tokens)] = tokens
        places, segments = np.arange(LENGTH)[None], (np.arange(LENGTH) < len(tokens))[None].astype(np.int32)
        logits = plain(params, jnp.asarray(row), jnp.asarray(places), jnp.asarray(segments))
        told = jax.nn.log_softmax(logits[0].astype(jnp.float32))[np.arange(len(tokens) - 1), tokens[1:]]
        alone += [-float(told.sum()), len(tokens) - 1]
    assert packed[1] == alone[1] == len(store.tokens) - len(store)
    assert packed[0] / packed[1] == pytest.approx(alone[0] / alone[1], rel=1e-5)


@pytest.mark.parametrize("tokens", [0.0, 3.0, 29.0, 31.0, 107.0])
def test_instructions_come_nearest_to_the_tokens_that_are_wanted(tokens):
    lengths = np.array([3, 5, 7, 4, 6, 5])
    order = instruction_order(lengths, tokens, seed=3)
    assert abs(lengths[order].sum() - tokens) <= lengths.max() / 2
    counts = np.bincount(order, minlength=len(lengths))
    assert counts.max() - counts.min() <= 1
    assert order.tolist() == instruction_order(lengths, tokens, seed=3).tolist()


def test_the_cache_is_read_again_and_damage_is_mended(tmp_path, tokenizer, monkeypatch):
    made = load(tmp_path, TEXTS, tokenizer)
    monkeypatch.setattr(documents_module._DocumentReader, "read", lambda self: pytest.fail("tokenised again"))
    again = load(tmp_path, TEXTS, tokenizer)
    assert examples_of(again.store) == examples_of(made.store)
    assert data_fingerprint(again.store) == data_fingerprint(made.store)
    monkeypatch.undo()
    expected = examples_of(made.store)
    path = next((tmp_path / "cache").glob("*.tokens.bin"))
    path.write_bytes(path.read_bytes()[:-4])
    assert examples_of(load(tmp_path, TEXTS, tokenizer).store) == expected


def test_fewer_documents_are_whole_ones(tmp_path, tokenizer):
    made = load(tmp_path, TEXTS, tokenizer)
    few = take_documents(made, 2, seed=5)
    kept = [place for place, row in enumerate(made.rows.tolist()) if row in few.rows.tolist()]
    assert few.store.text_bytes == sum(len(TEXTS[place].encode()) for place in kept)
    whole = [one for one, name in zip(examples_of(made.store), made.store.ids, strict=True) if name in few.store.ids]
    assert examples_of(few.store) == whole
    assert len(few.store) == few.rows[:, 3].sum()
    assert take_documents(made, 9, seed=5) is made


def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch):
    monkeypatch.setattr(documents_module, "_GROUP_CHARACTERS", 1 << 14)
    for module in (documents_module, text_documents):
        monkeypatch.setattr(module, "_CHUNK", 1 << 16)

    def peak(name: str, count: int) -> int:
        files = corpus(tmp_path / name, ["word " * 800] * count)
        tracemalloc.start()
        try:
            load_documents(files, TextLayout(), Bytes(), 512, tmp_path / name / "cache")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak("first", 2)  # what is imported and kept once
    small, large = peak("small", 50), peak("large", 400)
    assert large < small + 200_000  # 1.4 MB more of text, 7 MB more of tokens


SECTIONS = {"evaluation": {"max_rows": None}, "optimizer": {}}


def run_examples(tiny_config, folder: Path, tokenizer, texts, objective=None, **data):
    """(examples, lines said) of a run over texts."""
    corpus(folder / "train", texts)
    said: list[str] = []
    config = tiny_config(
        folder / "run",
        data={
            "train": [str(folder / "train")],
            "validation": [],
            "max_rows": None,
            "cache_dir": str(folder / "c"),
            **data,
        },
        objective={"kind": "documents", **(objective or {})},
    )
    return load_examples(config, tokenizer, said.append), said


def test_records_are_mixed_in_at_their_share_of_the_tokens(tiny_config, tmp_path, tokenizer):
    mixed = {"instructions": ["sample:train"], "instruction_share": 0.3}
    examples, _ = run_examples(tiny_config, tmp_path, tokenizer, TEXTS * 100, mixed)
    count = examples.facts["train"]["instruction_examples"]
    store, first = examples.train, len(examples.train) - count
    share = (store.offsets[-1] - store.offsets[first]) / store.offsets[-1]
    assert share == pytest.approx(0.3, abs=0.01)
    assert examples.facts["train"]["instruction_share"] == pytest.approx(share)
    assert examples.rows == {"documents": 400, "instructions": count}
    # A record's question is context, and its answer the target, as in tuning.
    assert store.target_counts[first:].max() < store.lengths[first:].min() + 150
    assert (store.target_counts[first:] < store.lengths[first:] - 1).all()
    assert store.ids[first] == "instruction 1"
    again, _ = run_examples(tiny_config, tmp_path, tokenizer, TEXTS * 100, mixed)
    assert again.facts["fingerprints"] == examples.facts["fingerprints"]


def test_documents_that_hold_test_posts_are_left_out_and_counted(tiny_config, tmp_path, tokenizer):
    post = "I lie awake every single night and I count the hours until the alarm goes off"
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"dataset": "DR", "split": "test", "post": post, "label": "yes"}) + "\n")
    texts = ["A calm day at the lake.", f"Somebody wrote: {post.upper()}!! And more.", post.replace("I lie", "We lie")]
    examples, said = run_examples(tiny_config, tmp_path, tokenizer, texts, drop_posts_in=[str(test)])
    assert examples.rows == {"documents": 1}
    facts = examples.facts["train"]
    assert facts["leaks"] == 2
    assert [one["document"].rpartition(":")[2] for one in facts["leaks_listed"]] == ["2", "3"]
    assert any("documents hold or copy posts that must not be trained on" in line for line in said)
    assert "awake" not in json.dumps(examples.facts) + "".join(said)


def test_problems_are_counted_once_named_and_fatal_where_strict(tiny_config, tmp_path, tokenizer):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "x.txt").write_bytes(b"\0")
    examples, said = run_examples(tiny_config, tmp_path, tokenizer, ["good", "", "good"])
    assert examples.facts["train"]["unusable"] == 2
    assert [one["row"] for one in examples.facts["train"]["unusable_listed"]] == [1, 2]
    assert said == [
        f"data.train: 2 documents cannot be used and are left out, the first: {tmp_path}/train/x.txt, row 1: the file "
        "holds a NUL byte; it is not a text file or is damaged"
    ]
    with pytest.raises(UserError, match=r"data.train: .*x.txt, row 1: the file holds a NUL byte"):
        run_examples(tiny_config, tmp_path, tokenizer, ["good", "", "good"], strict=True)
    with pytest.raises(
        UserError, match=r"data.train: no document is left of 1 files; the first problem: .*row 1: is em"
    ):
        run_examples(tiny_config, tmp_path, tokenizer, ["", " "])


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"objective": {"instruction_share": 0.1}},
            "objective.instructions and objective.instruction_share: give both",
        ),
        ({"objective": {"instructions": ["sample"]}}, "give both or neither"),
        ({"objective": {"instruction_share": 1.0}}, r"objective.instruction_share: .*less than 1"),
        ({"evaluation": {"generate_rows": 3}}, "raw text asks no questions"),
        ({"data": {"max_rows": 3}}, "data.max_rows 3: documents are not chosen"),
        ({"data": {"balance_labels": True}}, "balance_labels choose records, which only objective.instr"),
        ({"data": {"datasets": ["DR"]}}, "data.datasets, .* choose records"),
        ({"data": {"max_length": 1, "max_rows": None}}, "a row of documents needs 2 tokens"),
    ],
)
def test_what_documents_do_not_have_is_refused(tiny_config, tmp_path, sections, message):
    data = {"max_rows": None} | sections.pop("data", {})
    objective = {"kind": "documents"} | sections.pop("objective", {})
    with pytest.raises(UserError, match=message):
        tiny_config(tmp_path, data=data, objective=objective, **sections)
