"""Our modules against those of Hugging Face transformers on torch, in fp32: 1e-5 each, 1e-4 the whole model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.models.attention import Places, attention
from mentallama_jax.models.llama import DecoderLayer, LlamaConfig, forward
from mentallama_jax.models.module import bind, init_params
from mentallama_jax.models.rotary import RopeScaling, apply_rotary

torch = pytest.importorskip("torch", reason="torch is not installed (extra `parity`)")
hf = pytest.importorskip("transformers.models.llama.modeling_llama")

BATCH, TOKENS = 2, 24
SCALINGS = {
    None: None,
    "linear": RopeScaling("linear", 2.0),
    "llama3": RopeScaling("llama3", 4.0, 1.0, 4.0, 16),
}


def shape(**changes) -> LlamaConfig:
    values = {
        "vocab_size": 40,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 4,
        "head_dim": 8,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_embeddings": False,
        "max_positions": 64,
    }
    return LlamaConfig(**(values | changes))


def torch_config(config: LlamaConfig):
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        scaling = config.rope_scaling
        rope |= {
            "rope_type": scaling.kind,
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_max_positions,
        }
        rope = {key: value for key, value in rope.items() if value is not None}
    return hf.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters=rope,
        tie_word_embeddings=config.tie_embeddings,
        max_position_embeddings=config.max_positions,
        attn_implementation="eager",
    )


def random_params(config: LlamaConfig):
    """Parameters large enough that every part of the model matters to the result."""
    keys = iter(jax.random.split(jax.random.key(1), 32))
    return jax.tree.map(
        lambda x: x + 0.2 * jax.random.normal(next(keys), x.shape), init_params(config, jax.random.key(0))
    )


def torch_layer_weights(params, layer: int) -> dict:
    """One layer's parameters under the names and in the layout of transformers."""
    one = jax.tree.map(lambda x: np.array(x[layer]), params["layers"])
    attention, mlp = one["attention"], one["mlp"]
    rows = {
        f"self_attn.{theirs}_proj": attention[ours].reshape(attention[ours].shape[0], -1).T
        for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value"))
    }
    rows["self_attn.o_proj"] = attention["output"].reshape(-1, attention["output"].shape[-1]).T
    rows |= {f"mlp.{name}_proj": mlp[name].T for name in ("gate", "up", "down")}
    rows["input_layernorm"] = one["attention_norm"]["scale"]
    rows["post_attention_layernorm"] = one["mlp_norm"]["scale"]
    return {f"{name}.weight": torch.tensor(value.copy()) for name, value in rows.items()}


def torch_model(config: LlamaConfig, params):
    weights = {"model.embed_tokens.weight": params["embedding"], "model.norm.weight": params["final_norm"]["scale"]}
    if not config.tie_embeddings:
        weights["lm_head.weight"] = params["head"].T
    weights = {name: torch.tensor(np.array(value)) for name, value in weights.items()}
    for layer in range(config.num_layers):
        weights |= {f"model.layers.{layer}.{k}": v for k, v in torch_layer_weights(params, layer).items()}
    model = hf.LlamaForCausalLM(torch_config(config)).eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert set(missing) <= ({"lm_head.weight"} if config.tie_embeddings else set())
    assert not unexpected
    return model


def hidden_states(config: LlamaConfig) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(BATCH, TOKENS, config.hidden_size)).astype(np.float32)


def positions() -> np.ndarray:
    return np.tile(np.arange(TOKENS, dtype=np.int32), (BATCH, 1))


def one_layer(config: LlamaConfig, params) -> DecoderLayer:
    return jax.tree.map(lambda x: x[1], bind(config, params).layers)


def assert_close(ours, theirs, tolerance: float) -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("epsilon", [1e-6, 1e-2])
def test_norm(epsilon):
    config = shape(rms_norm_eps=epsilon)
    params = random_params(config)
    x = hidden_states(config) * 0.1
    theirs = hf.LlamaRMSNorm(config.hidden_size, epsilon)
    theirs.load_state_dict({"weight": torch_layer_weights(params, 1)["input_layernorm.weight"]})
    assert_close(one_layer(config, params).attention_norm(jnp.asarray(x)), theirs(torch.tensor(x)), 1e-5)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("theta", [10000.0, 123.0])
def test_rotary(theta, scaling):
    config = shape(rope_theta=theta, rope_scaling=SCALINGS[scaling])
    x = np.random.default_rng(3).normal(size=(BATCH, TOKENS, config.num_heads, config.head_dim)).astype(np.float32)
    places = positions() + 7
    cos, sin = hf.LlamaRotaryEmbedding(torch_config(config))(torch.tensor(x), torch.tensor(places))
    theirs, _ = hf.apply_rotary_pos_emb(torch.tensor(x), torch.tensor(x), cos, sin, unsqueeze_dim=2)
    tables = bind(config, init_params(config, jax.random.key(0))).rotary(jnp.asarray(places))
    assert_close(apply_rotary(jnp.asarray(x), *tables), theirs, 1e-5)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("head_dim", [8, 12])
def test_attention_mlp_and_layer(kv_heads, head_dim):
    config = shape(num_kv_heads=kv_heads, head_dim=head_dim)
    params = random_params(config)
    theirs = hf.LlamaDecoderLayer(torch_config(config), 0)
    theirs.load_state_dict(torch_layer_weights(params, 1))
    x, places = hidden_states(config), positions()
    x_torch, places_torch = torch.tensor(x), torch.tensor(places)
    causal = torch.full((TOKENS, TOKENS), -torch.inf).triu(1)[None, None].expand(BATCH, 1, -1, -1)
    rotary_torch = hf.LlamaRotaryEmbedding(torch_config(config))(x_torch, places_torch)
    ours, rotary = one_layer(config, params), bind(config, params).rotary(jnp.asarray(places))

    def attend(q, k, v):
        return attention(q, k, v, Places(jnp.asarray(places), jnp.ones((BATCH, TOKENS), jnp.int32)))

    assert_close(ours.mlp(jnp.asarray(x)), theirs.mlp(x_torch), 1e-5)
    attended = theirs.self_attn(x_torch, position_embeddings=rotary_torch, attention_mask=causal)[0]
    assert_close(ours.attention(jnp.asarray(x), rotary, attend), attended, 1e-5)
    whole = theirs(x_torch, position_embeddings=rotary_torch, attention_mask=causal)
    whole = whole[0] if isinstance(whole, tuple) else whole
    assert_close(ours(jnp.asarray(x), rotary, attend), whole, 1e-5)


@pytest.mark.parametrize("kv_heads", [4, 2], ids=["mha", "gqa"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"rms_norm_eps": 1e-2}, {"rope_theta": 77.0}, {"head_dim": 12}, {"rope_scaling": SCALINGS["llama3"]}],
    ids=["default", "eps", "theta", "head_dim", "llama3"],
)
def test_whole_model(kv_heads, tied, changes):
    config = shape(num_kv_heads=kv_heads, tie_embeddings=tied, **changes)
    params = random_params(config)
    tokens = np.random.default_rng(4).integers(0, config.vocab_size, (BATCH, TOKENS), dtype=np.int32)
    ours = forward(params, config, jnp.asarray(tokens), jnp.asarray(positions()), jnp.ones_like(tokens))
    theirs = torch_model(config, params)(torch.tensor(tokens).long()).logits
    assert float(theirs.detach().std()) > 0.1  # else the comparison would see nothing
    assert_close(ours, theirs, 1e-4)
