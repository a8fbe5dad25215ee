"""BARTScore: by the original recipe, whatever the batch, order and padding; weights in both layouts of their names."""

import os
from pathlib import Path

import numpy as np
import pytest
from small_sequence_model import CONFIG, random_params, write_bart
from torch_writer import legacy_file, zip_file

from mentallama_jax.cli.main import main
from mentallama_jax.evaluation.pair_metrics import Pair
from mentallama_jax.formats.load import load_model
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.jobs.metric_models import MetricModels
from mentallama_jax.jobs.open_metrics import open_metrics
from mentallama_jax.scorers.bart_score import SequenceScorer
from mentallama_jax.scorers.packed_texts import packed_batches

PUBLISHED = "MENTALLAMA_BART_LARGE_CNN"
PUBLISHED_WEIGHTS = "MENTALLAMA_BART_SCORE_PTH"
LENGTHS = [(5, 9), (30, 3), (12, 12), (64, 2), (2, 60), (17, 33), (8, 8), (3, 3)]


def pairs() -> list[tuple[list[int], list[int]]]:
    source = np.random.default_rng(0)
    make = lambda count: [0, *source.integers(4, CONFIG.vocab_size, count - 2).tolist(), 2]  # noqa: E731
    return [(make(first), make(second)) for first, second in LENGTHS]


def scored(items, **layout) -> list[float]:
    found = {}
    for part in SequenceScorer(CONFIG, random_params(), **layout).scores(items):
        found |= part
    return [found[place] for place in range(len(items))]


@pytest.mark.long
def test_scores_are_those_of_the_original_recipe(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra parity is not installed")
    transformers = pytest.importorskip("transformers")
    write_bart(tmp_path / "bart")
    model = transformers.BartForConditionalGeneration.from_pretrained(tmp_path / "bart").eval()
    loss = torch.nn.NLLLoss(reduction="none", ignore_index=1)
    wanted = []
    with torch.no_grad():
        for start in range(0, len(LENGTHS), 4):  # padded in batches of 4, as the original does
            part = pairs()[start : start + 4]
            sources, targets = (
                torch.nn.utils.rnn.pad_sequence(
                    [torch.tensor(pair[side]) for pair in part], batch_first=True, padding_value=1
                )
                for side in (0, 1)
            )
            output = model(input_ids=sources, attention_mask=(sources != 1).long(), labels=targets)
            logs = torch.log_softmax(output.logits.view(-1, CONFIG.vocab_size), dim=1)
            lost = loss(logs, targets.view(-1)).view(len(part), -1).sum(dim=1)
            wanted += (-lost / (targets != 1).sum(dim=1)).tolist()
    np.testing.assert_allclose(scored(pairs(), room=64), wanted, atol=1e-4)


def test_neither_batch_nor_order_nor_padding_matter() -> None:
    items = pairs()
    alone = [scored([item], room=64)[0] for item in items[:3]]
    together = scored(items, room=64)
    np.testing.assert_allclose(together[:3], alone, atol=1e-5)
    for room, rows in ((128, 1), (64, 3), (256, 2)):
        np.testing.assert_allclose(scored(items, room=room, rows=rows), together, atol=1e-5)
    order = np.random.default_rng(1).permutation(len(items))
    np.testing.assert_allclose(scored([items[place] for place in order], room=64), np.array(together)[order], atol=1e-5)


def test_every_text_is_in_one_row_and_few_shapes_are_made() -> None:
    source = np.random.default_rng(2)
    items = [([1] * int(a), [2] * int(b)) for a, b in source.integers(1, 200, (300, 2))]
    seen: list[int] = []
    shapes, real, places = set(), 0, 0
    for batch in packed_batches(items, 64, 2):
        seen += [place for row in batch.rows for place in row]
        shapes.add(batch.sides[0].tokens_RT.shape)
        for side, packed in enumerate(batch.sides):
            for number, row in enumerate(batch.rows):
                for segment, place in enumerate(row, start=1):
                    own = packed.segments_RT[number] == segment
                    assert packed.tokens_RT[number][own].tolist() == items[place][side]
                    assert packed.positions_RT[number][own].tolist() == list(range(len(items[place][side])))
            real += int((packed.segments_RT > 0).sum())
            places += packed.segments_RT.size
    assert sorted(seen) == list(range(300))
    assert shapes == {(2, 64), (2, 128), (2, 256)}
    assert real == sum(len(text) for item in items for text in item)


@pytest.mark.parametrize("write", [zip_file, legacy_file])
@pytest.mark.parametrize("wrapped", ["", "model."])
def test_other_weights_in_both_layouts_of_their_names(write, wrapped: str, tmp_path: Path) -> None:
    write_bart(tmp_path / "bart")
    write_bart(tmp_path / "tuned", seed=5)
    import safetensors.numpy

    tensors = safetensors.numpy.load_file(tmp_path / "tuned" / "model.safetensors")
    tensors = {f"{wrapped}{name}": value for name, value in tensors.items()}
    tensors[f"{wrapped}lm_head.weight"] = tensors[f"{wrapped}model.shared.weight"]
    (tmp_path / "bart_score.pth").write_bytes(write(tensors))
    pair = [Pair("DR/test/1", "DR", "p", "the post says so", "then the rest")]

    def score(folder: str, weights: Path | None = None) -> float:
        models = MetricModels(bartscore=str(tmp_path / folder), bartscore_weights=weights)
        (metric,) = open_metrics(["bartscore"], models, [])
        return next(iter(metric.scores(pair)))[0][0].value

    assert score("bart", tmp_path / "bart_score.pth") == pytest.approx(score("tuned"), abs=1e-6)
    assert abs(score("bart") - score("tuned")) > 1e-3


def test_directions(tmp_path: Path) -> None:
    write_bart(tmp_path / "bart")
    models = MetricModels(bartscore=str(tmp_path / "bart"))
    (metric,) = open_metrics(["bartscore_precision", "bartscore", "bartscore_f1"], models, [])
    assert [figure.name for figure in metric.figures] == ["bartscore_precision", "bartscore", "bartscore_f1"]
    one = Pair("DR/test/1", "DR", "p", "the post says so", "then the rest of it")
    other = Pair("DR/test/1", "DR", "p", one.reference, one.output)
    found = next(iter(metric.scores([one, other])))
    values = [[score.value for score in found[place]] for place in (0, 1)]
    assert values[0][:2] == pytest.approx(values[1][:2][::-1], abs=1e-5)
    assert values[0][2] == pytest.approx(sum(values[0][:2]) / 2)
    config, params = load_model(tmp_path / "bart")
    encode = EncoderTokenizer(tmp_path / "bart").encode
    tokens = [tuple(encode([text], 64)[0] for text in (one.output, one.reference))]
    by_hand = next(iter(SequenceScorer(config, params).scores(tokens)))[0]
    assert values[0][1] == pytest.approx(by_hand, abs=1e-5)  # ln p(reference | output)


def test_missing_weights_are_one_line_with_the_command_that_fetches_them(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    csv = tmp_path / "DR.csv"
    csv.write_text('goldens,generated_text\n"Yes, the poster suffers from depression. Reasoning: so","so"\n')
    assert main(["evaluate", str(csv), "--metrics", "bartscore", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "hf download facebook/bart-large-cnn --local-dir bart-large-cnn" in said
    assert "--bartscore-model bart-large-cnn" in said
    assert len(said.strip().splitlines()) == 1


def test_the_published_goldens() -> None:
    folder, weights = os.environ.get(PUBLISHED), os.environ.get(PUBLISHED_WEIGHTS)
    if not folder:
        pytest.skip(f"{PUBLISHED} names no folder with the published facebook/bart-large-cnn")
    pair = [Pair("1", "DR", "p", "This is interesting.", "This is fun.")]
    for path, wanted in ((None, -2.510652780532837), (weights, -2.336203098297119)):
        if path is None or weights:
            models = MetricModels(bartscore=folder, bartscore_weights=path and Path(path))
            (metric,) = open_metrics(["bartscore"], models, [])
            assert next(iter(metric.scores(pair)))[0][0].value == pytest.approx(wanted, abs=1e-4)
