"""Targets of encoder-decoders: token for token those of transformers, by beam search and greedily; and by goldens."""

from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.formats.load import load_model
from mentallama_jax.generation.beam_search import BeamSearch, search_beams, write_targets
from mentallama_jax.generation.engine import Settings
from mentallama_jax.generation.sampling import Sampling, row_keys
from mentallama_jax.generation.sequence_engine import SequenceEngine
from mentallama_jax.generation.target_rules import TargetRules
from mentallama_jax.models.attention import Places
from mentallama_jax.models.module import bind
from mentallama_jax.models.presets import SEQUENCE_PRESETS

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="the extra parity is not installed")
BART = {"vocab_size": 40, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
BART |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 40}
T5 = {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
LENGTHS = (13, 4, 9, 1)


@pytest.fixture(scope="module", params=["Bart", "T5"])
def models(request, tmp_path_factory):
    """A model of transformers, and ours."""
    import torch
    import transformers

    torch.manual_seed(3)
    values = BART if request.param == "Bart" else T5
    config = getattr(transformers, f"{request.param}Config")(**values)
    model = getattr(transformers, f"{request.param}ForConditionalGeneration")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    model.generation_config = transformers.GenerationConfig(
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id if request.param == "Bart" else 0,
    )
    return model, *load_model(folder)


def sources() -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(0).integers(5, 40, (len(LENGTHS), max(LENGTHS)))
    return np.where(np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None], tokens, 1), np.array(LENGTHS)


def theirs(model, **settings):
    import torch

    tokens, lengths = sources()
    mask = (np.arange(tokens.shape[1]) < lengths[:, None]).astype(int)
    with torch.no_grad():
        return model.generate(
            input_ids=torch.tensor(tokens),
            attention_mask=torch.tensor(mask),
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )


def same_tokens(tokens, lengths, wanted) -> None:
    """Ours up to their lengths are theirs, and behind them theirs has padding alone."""
    rows = np.asarray(tokens).reshape(-1, tokens.shape[-1])
    for row, length, other in zip(rows, np.asarray(lengths).reshape(-1), wanted.numpy(), strict=True):
        assert row[:length].tolist() == other[:length].tolist()
        assert len(set(other[length:].tolist())) <= 1


SEARCHES = [
    {"num_beams": 4},
    {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True},
    {"num_beams": 3, "length_penalty": -1.0, "early_stopping": "never"},
    {"num_beams": 5, "length_penalty": 1.5, "early_stopping": "never", "no_repeat_ngram_size": 2},
    {"num_beams": 2, "min_length": 9, "no_repeat_ngram_size": 3},
    {"num_beams": 4, "min_length": 6, "length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram_size": 3}
    | {"forced_bos_token_id": 7, "forced_eos_token_id": 2},
    {"num_beams": 1, "no_repeat_ngram_size": 1, "min_length": 12},
]


@needs_torch
@pytest.mark.filterwarnings("ignore:Unfeasible length")
@pytest.mark.parametrize(
    ("settings", "max_length"), [*((one, 20) for one in SEARCHES), *((one, 6) for one in SEARCHES[4:6])], ids=str
)
def test_targets_are_those_of_transformers(models, settings, max_length) -> None:
    model, config, params = models
    rules = TargetRules(
        max_length=max_length,
        end_ids=(config.end_id,),
        min_length=settings.get("min_length", 0),
        no_repeat_ngram=settings.get("no_repeat_ngram_size", 0),
        forced_first_id=settings.get("forced_bos_token_id"),
        forced_last_id=settings.get("forced_eos_token_id"),
    )
    beams = settings["num_beams"]
    wanted = theirs(model, max_length=max_length, num_return_sequences=beams, **settings)
    tokens, lengths = sources()
    if beams == 1:
        keys = row_keys(0, ["row"] * len(lengths))
        written = write_targets(params, tokens, lengths, keys, config=config, sampling=Sampling(), rules=rules)
    else:
        search = BeamSearch(beams, settings.get("length_penalty", 1.0), settings.get("early_stopping", False))
        written = search_beams(params, tokens, lengths, config=config, search=search, rules=rules)
        np.testing.assert_allclose(written.scores_BJ.reshape(-1), wanted.sequences_scores.numpy(), rtol=1e-4, atol=1e-4)
    same_tokens(written.tokens_BJT, written.lengths_BJ, wanted.sequences)


@needs_torch
def test_a_source_alone_is_written_as_in_a_batch(models) -> None:
    _, config, params = models
    rules = TargetRules(max_length=12, end_ids=(config.end_id,), no_repeat_ngram=2)
    tokens, lengths = sources()
    search = BeamSearch(3, 1.0, True)
    together = search_beams(params, tokens, lengths, config=config, search=search, rules=rules)
    for row, length in enumerate(LENGTHS[:1]):
        alone = search_beams(
            params, tokens[row : row + 1, :length], lengths[row : row + 1], config=config, search=search, rules=rules
        )
        assert (alone.tokens_BJT[0] == together.tokens_BJT[row]).all()
        np.testing.assert_allclose(alone.scores_BJ[0], together.scores_BJ[row], rtol=1e-4)


@pytest.mark.long
@needs_torch
def test_sampled_targets_have_their_own_draws_and_the_sum_of_their_logs(models) -> None:
    _, config, params = models
    rules = TargetRules(max_length=10, end_ids=(config.end_id,))
    tokens, lengths = sources()
    write = lambda names: write_targets(  # noqa: E731
        params,
        tokens,
        lengths,
        row_keys(1, names),
        config=config,
        sampling=Sampling(temperature=1.5, top_k=20),
        rules=rules,
    )
    first, again, other = write("abcd"), write("abcd"), write("efgh")
    assert (first.tokens_BJT == again.tokens_BJT).all()
    assert (first.tokens_BJT != other.tokens_BJT).any()
    mask = (np.arange(tokens.shape[1]) < lengths[:, None]).astype(np.int32)
    ours = bind(config, params)

    def places(length):
        return np.broadcast_to(np.arange(length), (len(lengths), length))

    read = Places(places(tokens.shape[1]), mask)
    memory = ours.encode(tokens, read, dtype=jnp.float32)
    written = Places(places(10), np.ones((len(lengths), 10), np.int32))
    logits = ours.logits(ours.decode(first.tokens_BJT[:, 0], written, memory, read, dtype=jnp.float32))
    logs = jnp.take_along_axis(jax.nn.log_softmax(logits)[:, :-1], first.tokens_BJT[:, 0, 1:, None], -1)[..., 0]
    for row, length in enumerate(first.lengths_BJ[:, 0]):
        assert float(first.scores_BJ[row, 0]) == pytest.approx(float(logs[row, : length - 1].sum()), rel=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: BeamSearch(0),
        lambda: BeamSearch(2, early_stopping="sometimes"),
        lambda: TargetRules(1, (2,)),
        lambda: TargetRules(9, (2,), min_length=-1),
    ],
)
def test_settings_without_a_meaning_are_refused(wrong) -> None:
    with pytest.raises(UserError, match=r"give|least"):
        wrong()


@pytest.mark.parametrize("asked", [Settings(stop_strings=("x",)), Settings(sampling=Sampling(repetition_penalty=1.2))])
def test_what_is_for_decoders_alone_is_refused(asked: Settings) -> None:
    engine = SequenceEngine(SEQUENCE_PRESETS["t5-large"], jnp.float32)
    with pytest.raises(UserError, match="--stop and --repetition-penalty are for LLaMA models"):
        next(engine.answers([[5, 1]], ["a"], asked))
