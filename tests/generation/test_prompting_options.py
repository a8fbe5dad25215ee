"""`mentallama generate` with prompts of parts, examples, votes and labels first, up to the scores."""

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from command_words import changed
from tiny_decoder import random_params, shape

from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.model_card import ModelCard
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer
from mentallama_jax.generation.answers import answer_batches
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.generation.votes import Votes, voted
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.records import post_id
from mentallama_jax.imhi.tasks import TASKS

SAMPLE_TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"
CONFIG = shape(vocab_size=1024, num_layers=1, max_positions=1024)
PARAMS = random_params(CONFIG)
TRAINING = {record.id: record for record in read_records(["sample:train"]).records}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_hf(folder, CONFIG, PARAMS, load_tokenizer(SAMPLE_TOKENIZER), card=ModelCard("tiny", "base", False))
    return folder


def generate(model: Path, out: Path, *more: str) -> int:
    data = ["--data", "sample:test", "--datasets", "DR", "SAD", "--max-rows", "2", "--max-new-tokens", "48"]
    return main(changed(["generate", str(model), *data, "--out", str(out)], *more))


@pytest.mark.long
def test_all_of_it_together_up_to_the_report(model: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "p.jsonl"
    asked = ["--prompt", "zero-shot", "--shots", "1", "--shots-from", "sample:train", "--label-first"]
    voting = ["--votes", "3", "--temperature", "1", "--keep-votes"]
    assert generate(model, out, *asked, *voting) == 0
    printed = capsys.readouterr().out
    assert "few-shot examples: " in printed
    assert "rows whose samples all state no label: 0" in printed

    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    meta = json.loads((tmp_path / "p.meta.json").read_text())
    assert len(rows) == 4
    for row in rows:
        sentences = TASKS[row["dataset"]].sentences
        assert row["generated_text"].startswith(f"{sentences[row['decided_label']]} Reasoning:")
        assert row["generated_text"] in row["samples"]
        assert len(row["samples"]) == sum(row["votes"].values()) == 3
        assert set(row["label_log_probabilities"]) == set(sentences)
        assert row["examples"]
        for example in row["examples"]:
            assert TRAINING[example].dataset == row["dataset"]
            assert post_id(TRAINING[example].post) != row["post_id"]
    assert {example for row in rows for example in row["examples"]} <= set(meta["shots"]["examples"])
    assert meta["prompt"]["kind"] == "zero-shot"
    assert (meta["shots"]["per_class"], meta["shots"]["choice"], meta["shots"]["seed"]) == (1, "balanced", 0)
    assert (meta["votes"], meta["label_first"]) == ({"count": 3, "keep": True}, True)

    assert main(["evaluate", str(out), "--out", str(tmp_path / "scores")]) == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert {values["unparsed"] for values in scores["datasets"].values()} == {0}
    assert scores["signature"]["generation"]["shots"] == meta["shots"]
    assert set(scores["calibration"]["datasets"]) == {"DR", "SAD"}

    whole = out.read_bytes()
    for change, said in (
        (["--shots-seed", "1"], "shots.contents was"),
        (["--prompt", "instruction"], "prompt.text was"),
        (["--votes", "4"], "votes.count was 3, is 4"),
    ):
        assert generate(model, out, *changed([*asked, *voting], *change)) == 2
        assert said in capsys.readouterr().err
    assert out.read_bytes() == whole


@pytest.mark.long
def test_samples_of_a_vote_depend_on_the_seed_and_their_number_alone() -> None:
    tokenizer = load_tokenizer(SAMPLE_TOKENIZER)
    records = [replace(record, id=f"r{n}") for n, record in enumerate(read_records(["sample:test"]).records[:3])]
    engine = Engine(CONFIG)
    engine.update(PARAMS)

    def rows(votes: Votes, batch_size: int, some=records):
        settings = Settings(40, Sampling(1.0), 5, batch_size)
        asked = {"style": "plain", "max_length": 512, "settings": settings, "label_first": True, "votes": votes}
        found = {row.id: row for row in chain.from_iterable(answer_batches(engine, tokenizer, some, **asked))}
        return [found[record.id] for record in some]

    three = rows(Votes(3, keep=True), 4)
    assert three == rows(Votes(3, keep=True), 9)
    assert three[1:] == rows(Votes(3, keep=True), 4, records[1:])
    alone = rows(Votes(), 4)
    assert [row.samples[0] for row in three] == [row.generated_text for row in alone]
    assert all(len(set(row.samples)) == 3 for row in three)
    first_two = rows(Votes(2, keep=True), 4)
    assert [row.samples for row in first_two] == [row.samples[:2] for row in three]
    assert voted(alone[:1]).decided_label == alone[0].decided_label


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--shots", "2"], "--shots needs --shots-from"),
        (["--shots-from", "sample"], "--shots-from goes with --shots"),
        (["--shots", "0", "--shots-from", "sample"], "--shots 0"),
        (["--shots-choice", "random"], "--shots-choice goes with --shots"),
        (["--shots-seed", "1"], "--shots-seed goes with --shots"),
        (["--shots-encoder", "x"], "--shots-encoder goes with --shots"),
        (["--shots", "1", "--shots-from", "sample", "--shots-encoder", "x"], "goes with --shots-choice nearest"),
        (
            ["--shots", "1", "--shots-from", "sample", "--shots-choice", "nearest", "--shots-seed", "1"],
            "all seeds give the same",
        ),
        (["--votes", "3"], "--temperature above 0"),
        (["--keep-votes"], "--keep-votes goes with --votes"),
        (["--score-labels", "--label-first"], "--score-labels generates nothing"),
        (["--prompt", "five-shot"], "five-shot: no such file; --prompt takes instruction, zero-shot"),
        (["--prompt", "zero-shot", "--style", "completion"], "choose another --style"),
    ],
)
def test_mistakes_are_one_line(model: Path, tmp_path: Path, capsys, change: list[str], message: str) -> None:
    assert generate(model, tmp_path / "p.jsonl", *change) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [".", "Reasoning", "poster", "n: "])
@pytest.mark.parametrize("style", [["--style", "plain"], ["--style", "completion"], []])
def test_a_stop_within_the_label_is_refused(model: Path, tmp_path: Path, capsys, stop: str, style: list[str]) -> None:
    no_model = tmp_path / "there is none"
    within = stop in (".", "Reasoning") or (stop == "poster" and "completion" not in style)
    assert generate(no_model, tmp_path / "p.jsonl", "--label-first", *style, "--stop", "\n", stop) == 2
    error = capsys.readouterr().err
    assert (f"stop '{stop}' stands in '" in error) is within
    assert ("Reasoning:', with which --label-first" in error) is within
    assert error.count("\n") == 1
    records = read_records(["sample:test"]).records[:2]
    asked = {"style": (style or ["plain"])[-1], "max_length": 512, "settings": Settings(48, stop_strings=(stop,))}
    engine = Engine(CONFIG, "float32")  # it has no weights
    with pytest.raises(UserError if within else RuntimeError, match="stands in" if within else "no weights"):
        next(answer_batches(engine, load_tokenizer(SAMPLE_TOKENIZER), records, **asked, label_first=True))


def test_a_limit_within_the_label_is_refused(model: Path, tmp_path: Path, capsys) -> None:
    assert generate(model, tmp_path / "p.jsonl", "--label-first", "--max-new-tokens", "5") == 2
    assert "with --label-first up to" in capsys.readouterr().err
