"""Every token that a model's files name as an end stops an answer, in generation and in an export."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import CARD, TINY, random_params

from mentallama_jax.errors import UserError
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.generation.answers import answer_records
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.imhi.prompts import encode_prompt, stop_ids
from mentallama_jax.imhi.records import Record

ROOMY = replace(TINY, max_positions=256)
RECORDS = [
    Record(f"DR/test/{number}", "DR", post, "yes", split="test")
    for number, post in enumerate(("I cannot sleep.", "We won the match!", "Everything is grey since May."))
]


def with_files(tokenizer: Tokenizer, folder: Path, **files: dict[str, Any]) -> Tokenizer:
    tokenizer.save(folder)
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return load_tokenizer(folder)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (2,)),
        ({"config": {"eos_token_id": 2}}, (2,)),
        ({"config": {"eos_token_id": [2, 45, 454]}}, (2, 45, 454)),
        ({"generation_config": {"eos_token_id": [45, 2]}, "config": {"eos_token_id": 7}}, (2, 45, 7)),
        ({"config": {"eos_token_id": [2, 999], "vocab_size": 500}}, (2,)),  # no row of the embedding, so never sampled
        ({"generation_config": {"eos_token_id": None}}, (2,)),
    ],
)
def test_the_ends_of_all_files_are_joined_and_kept(
    tokenizer: Tokenizer, tmp_path: Path, files: dict[str, Any], expected: tuple[int, ...]
) -> None:
    made = with_files(tokenizer, tmp_path / "source", **files)
    assert made.end_ids == expected
    assert stop_ids("plain", made) == tuple(sorted(expected))
    made.save(tmp_path / "run")
    assert load_tokenizer(tmp_path / "run").end_ids == expected, "a run keeps them"


@pytest.mark.parametrize("value", ["2", [2, "x"], True, -1, [[2]], 2.0, {"id": 2}])
def test_an_end_that_is_no_id_is_refused(tokenizer: Tokenizer, tmp_path: Path, value: Any) -> None:
    with pytest.raises(UserError, match=r"generation_config.json has eos_token_id .*; expected an id or ids"):
        with_files(tokenizer, tmp_path, generation_config={"eos_token_id": value})


@pytest.mark.long
def test_answers_stop_where_those_of_transformers_stop(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """The ends are tokens that this random model chooses early, so without them the answers run to the limit."""
    torch = pytest.importorskip("torch", reason="the extra parity is not installed")
    import transformers

    params = random_params(ROOMY)
    settings = Settings(max_new_tokens=40)
    ask = {"style": "plain", "max_length": 256, "settings": settings}
    tokenizer.save(tmp_path / "free")
    engine = Engine(ROOMY)
    engine.update(params)
    plain = answer_records(engine, tokenizer, RECORDS, **ask)
    assert {row.finish for row in plain} == {"length"}

    save_hf(tmp_path / "free_model", ROOMY, params, tokenizer, card=CARD)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "free_model")
    prompts = [encode_prompt(record, "plain", tokenizer, 256 - 40).tokens for record in RECORDS]
    free = [
        model.generate(torch.tensor([ids]), max_new_tokens=40, do_sample=False)[0, len(ids) :].tolist()
        for ids in prompts
    ]
    ends = [2, *dict.fromkeys(tokens[place] for tokens, place in zip(free, (6, 4, 9), strict=True))]
    made = with_files(tokenizer, tmp_path / "source", config={"eos_token_id": ends})
    save_hf(tmp_path / "model", ROOMY, params, made, card=CARD)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.generation_config.eos_token_id == ends
    theirs = [
        len(model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=40)[0]) - len(ids) for ids in prompts
    ]
    assert max(theirs) < 12
    ours = answer_records(engine, load_tokenizer(tmp_path / "model"), RECORDS, **ask)
    assert [row.new_tokens for row in ours] == theirs
    assert {row.finish for row in ours} == {"eos"}


def chatml(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """The tokenizer with ChatML's tokens instead of its last two pieces."""
    tokenizer.save(folder)
    spec = json.loads((folder / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    spec["added_tokens"] += [
        {"id": 1024 + i, "content": t, **flags} for i, t in enumerate(("<|im_start|>", "<|im_end|>"))
    ]
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    (folder / "tokenizer.model").unlink(missing_ok=True)
    generation = {"temperature": 0.7, "top_p": 0.9, "do_sample": True, "eos_token_id": 2, "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return load_tokenizer(folder)


def test_an_export_ends_as_its_style_and_samples_as_its_source(tokenizer: Tokenizer, tmp_path: Path) -> None:
    made = chatml(tokenizer, tmp_path / "source")
    config = replace(TINY, vocab_size=1026)
    out = tmp_path / "model"
    save_hf(out, config, random_params(config), made, card=CARD, end_ids=stop_ids("chatml", made))
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation["eos_token_id"] == json.loads((out / "config.json").read_text())["eos_token_id"] == [2, 1025]
    assert (generation["temperature"], generation["top_p"], generation["do_sample"]) == (0.7, 0.9, True)
    assert load_tokenizer(out).end_ids == (2, 1025)


def test_a_padding_token_beyond_the_embedding_is_replaced_and_the_export_loads(
    tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in many copies of LLaMA 2: `<pad>` has the id of the first row that is not there."""
    tokenizer.save(tmp_path / "source")
    spec = json.loads((tmp_path / "source" / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    spec["added_tokens"].append({"id": 1024, "content": "<pad>", **flags})
    (tmp_path / "source" / "tokenizer.json").write_text(json.dumps(spec))
    (tmp_path / "source" / "tokenizer.model").unlink(missing_ok=True)
    names = json.loads((tmp_path / "source" / "tokenizer_config.json").read_text()) | {"pad_token": "<pad>"}
    (tmp_path / "source" / "tokenizer_config.json").write_text(json.dumps(names))
    (tmp_path / "source" / "config.json").write_text(json.dumps({"vocab_size": 1024, "pad_token_id": 1024}))
    (tmp_path / "source" / "generation_config.json").write_text(json.dumps({"pad_token_id": 1024}))
    save_hf(tmp_path / "model", TINY, random_params(TINY), load_tokenizer(tmp_path / "source"), card=CARD)
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "model" / name).read_text())["pad_token_id"] == 0
    pytest.importorskip("torch", reason="the extra parity is not installed")
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    batch = theirs(["short", "a longer text of several words"], padding=True, return_tensors="pt")
    assert int(batch.input_ids.max()) < 1024
    assert np.isfinite(model(**batch).logits.detach().numpy()).all()
