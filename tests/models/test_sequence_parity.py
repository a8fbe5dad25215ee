"""BART and T5 beside transformers on torch: states, scores, gradients, packed rows, exports."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.formats.hf_folder import save_model
from mentallama_jax.formats.load import load_model
from mentallama_jax.models.attention import Places
from mentallama_jax.models.module import bind
from mentallama_jax.models.t5 import distance_buckets

torch = pytest.importorskip("torch", reason="the extra parity is not installed")
transformers = pytest.importorskip("transformers")

BART = {"vocab_size": 60, "d_model": 24, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4}
BART |= {"decoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_ffn_dim": 32, "max_position_embeddings": 40}
T5 = {"vocab_size": 60, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}
CASES = {
    "bart": ("Bart", BART),
    "bart, scaled, gelu_new": ("Bart", BART | {"scale_embedding": True, "activation_function": "gelu_new"}),
    "t5": ("T5", T5),
    "t5, few buckets": ("T5", T5 | {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 11}),
    "t5, gated, untied": ("T5", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5, tied, unscaled": ("T5", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
}
SOURCES, TARGETS = (21, 9, 14), (8, 17, 5)


def made(case: str, folder: Path):
    """A random model of transformers, saved, and ours read from it."""
    family, values = CASES[case]
    torch.manual_seed(0)
    dropout = {"dropout_rate": 0.0} if family == "T5" else {"dropout": 0.0}
    model = getattr(transformers, f"{family}ForConditionalGeneration")(
        getattr(transformers, f"{family}Config")(**values, **dropout)
    ).eval()
    if "untied" in case:  # transformers ties what it makes itself, and leaves untied what files hold twice
        model.lm_head.weight = torch.nn.Parameter(torch.zeros(60, 24))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
        if family == "Bart":
            model.final_logits_bias.normal_(0, 0.2)
    model.save_pretrained(folder)
    return model, *load_model(folder)


def ragged(lengths: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts padded on the right: tokens and mask."""
    source = np.random.default_rng(seed)
    tokens = np.full((len(lengths), max(lengths)), 1)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(int)
    return np.where(mask, source.integers(5, 60, tokens.shape), tokens), mask


def places(mask) -> Places:
    return Places(np.broadcast_to(np.arange(mask.shape[1]), mask.shape), mask)


def close(ours, wanted, mask, rtol=1e-4, atol=1e-4) -> None:
    np.testing.assert_allclose(np.asarray(ours)[mask == 1], wanted.detach().numpy()[mask == 1], rtol=rtol, atol=atol)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_states_scores_and_gradients(case: str, tmp_path: Path) -> None:
    model, config, params = made(case, tmp_path)
    (sources, source_mask), (targets, target_mask) = ragged(SOURCES, 1), ragged(TARGETS, 2)
    labels = np.where(target_mask, np.roll(targets, -1, axis=1), -100)
    out = model(
        input_ids=torch.tensor(sources),
        attention_mask=torch.tensor(source_mask),
        decoder_input_ids=torch.tensor(targets),
        decoder_attention_mask=torch.tensor(target_mask),
        labels=torch.tensor(labels),
        output_hidden_states=True,
    )
    out.loss.backward()

    def loss(params):
        ours = bind(config, params)
        memory = ours.encode(sources, places(source_mask), dtype=jnp.float32, remat="full")
        hidden = ours.decode(targets, places(target_mask), memory, places(source_mask), dtype=jnp.float32, remat="full")
        logits = ours.logits(hidden)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), np.maximum(labels, 0)[..., None], -1)[..., 0]
        return -jnp.sum(chosen * target_mask) / target_mask.sum(), (memory, logits)

    (value, (memory, logits)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    close(memory, out.encoder_last_hidden_state, source_mask)
    close(logits, out.logits, target_mask)
    assert float(value) == pytest.approx(float(out.loss.detach()), rel=1e-4)
    names = dict(model.named_parameters())
    close_to = lambda ours, name: np.testing.assert_allclose(ours, names[name].grad.numpy(), rtol=1e-3, atol=1e-4)  # noqa: E731
    if config.model_type == "bart":
        close_to(gradients["embedding"], "model.shared.weight")
        close_to(gradients["decoder"]["positions"], "model.decoder.embed_positions.weight")
        cross = gradients["decoder"]["layers"]["cross_attention"]
        close_to(cross["key_bias"][1].reshape(-1), "model.decoder.layers.1.encoder_attn.k_proj.bias")
        close_to(gradients["encoder"]["layers"]["mlp"]["up"][2].T, "model.encoder.layers.2.fc1.weight")
    else:
        close_to(gradients["embedding"], "shared.weight")
        relative = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        close_to(gradients["encoder"]["relative_bias"], f"encoder.{relative}")
        close_to(gradients["decoder"]["relative_bias"], f"decoder.{relative}")
        cross = gradients["decoder"]["layers"]["cross_attention"]["value"][1]
        close_to(cross.reshape(24, -1).T, "decoder.block.1.layer.1.EncDecAttention.v.weight")
        if "untied" in case:
            close_to(gradients["head"].T, "lm_head.weight")


@pytest.mark.long
@pytest.mark.parametrize("case", ["bart", "t5"])
def test_pairs_packed_into_a_row_are_as_alone(case: str, tmp_path: Path) -> None:
    _, config, params = made(case, tmp_path)
    ours = bind(config, params)
    (sources, source_mask), (targets, target_mask) = ragged(SOURCES, 1), ragged(TARGETS, 2)
    memory = ours.encode(sources, places(source_mask), dtype=jnp.float32)
    alone = ours.decode(targets, places(target_mask), memory, places(source_mask), dtype=jnp.float32)

    def packed(tokens, mask):
        row = np.concatenate([tokens[mask == 1], [1, 1]])[None]
        lengths = mask.sum(axis=1)
        segments = np.concatenate([np.repeat([1, 2, 3], lengths), [0, 0]])[None]
        return row, Places(np.concatenate([*map(np.arange, lengths), [0, 0]])[None], segments)

    (source_row, source_places), (target_row, target_places) = (
        packed(sources, source_mask),
        packed(targets, target_mask),
    )
    row_memory = ours.encode(source_row, source_places, dtype=jnp.float32)
    row = ours.decode(target_row, target_places, row_memory, source_places, dtype=jnp.float32)
    np.testing.assert_allclose(row[0, :-2], np.asarray(alone)[target_mask == 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_an_export_is_read_by_transformers_and_comes_back_bit_for_bit(case: str, tmp_path: Path) -> None:
    model, config, params = made(case, tmp_path / "theirs")
    save_model(tmp_path / "ours", config, params, {})
    again_config, again = load_model(tmp_path / "ours")
    assert again_config == config
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again, params))
    read, told = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert not told["mismatched_keys"]
    theirs = model.state_dict()
    for name, value in read.state_dict().items():
        assert torch.equal(value, theirs[name]), name
    (sources, source_mask), (targets, _) = ragged(SOURCES, 1), ragged(TARGETS, 2)
    given = {"input_ids": sources, "attention_mask": source_mask, "decoder_input_ids": targets}
    given = {name: torch.tensor(value) for name, value in given.items()}
    assert torch.equal(read.eval()(**given).logits, model(**given).logits)


@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 11), (16, 40), (64, 500)])
@pytest.mark.parametrize("both_ways", [True, False])
def test_buckets_of_distances(buckets: int, distance: int, both_ways: bool) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = np.arange(-3000, 3001)
    theirs = T5Attention._relative_position_bucket(torch.tensor(distances), both_ways, buckets, distance)
    np.testing.assert_array_equal(distance_buckets(jnp.asarray(distances), buckets, distance, both_ways), theirs)
