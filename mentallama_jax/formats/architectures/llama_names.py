"""How the parameters of LLaMA are called in Hugging Face and GGUF files."""

from mentallama_jax.formats.architectures.parameter_names import NameTable, Parameter

LLAMA_NAMES = NameTable(
    parameters=(
        Parameter(("embedding",), "model.embed_tokens.weight", "token_embd.weight"),
        Parameter(
            ("layers", "attention_norm", "scale"),
            "model.layers.{layer}.input_layernorm.weight",
            "blk.{layer}.attn_norm.weight",
        ),
        Parameter(
            ("layers", "attention", "query"),
            "model.layers.{layer}.self_attn.q_proj.weight",
            "blk.{layer}.attn_q.weight",
            inputs=1,
            rotary=True,
        ),
        Parameter(
            ("layers", "attention", "key"),
            "model.layers.{layer}.self_attn.k_proj.weight",
            "blk.{layer}.attn_k.weight",
            inputs=1,
            rotary=True,
        ),
        Parameter(
            ("layers", "attention", "value"),
            "model.layers.{layer}.self_attn.v_proj.weight",
            "blk.{layer}.attn_v.weight",
            inputs=1,
        ),
        Parameter(
            ("layers", "attention", "output"),
            "model.layers.{layer}.self_attn.o_proj.weight",
            "blk.{layer}.attn_output.weight",
            inputs=2,
        ),
        Parameter(
            ("layers", "mlp_norm", "scale"),
            "model.layers.{layer}.post_attention_layernorm.weight",
            "blk.{layer}.ffn_norm.weight",
        ),
        Parameter(
            ("layers", "mlp", "gate"),
            "model.layers.{layer}.mlp.gate_proj.weight",
            "blk.{layer}.ffn_gate.weight",
            inputs=1,
        ),
        Parameter(
            ("layers", "mlp", "up"), "model.layers.{layer}.mlp.up_proj.weight", "blk.{layer}.ffn_up.weight", inputs=1
        ),
        Parameter(
            ("layers", "mlp", "down"),
            "model.layers.{layer}.mlp.down_proj.weight",
            "blk.{layer}.ffn_down.weight",
            inputs=1,
        ),
        Parameter(("final_norm", "scale"), "model.norm.weight", "output_norm.weight"),
        Parameter(("head",), "lm_head.weight", "output.weight", inputs=1, tied_to=("embedding",)),
    ),
    # Derived from the config; old checkpoints store it all the same.
    ignored=(r".*\.rotary_emb\.inv_freq",),
)
