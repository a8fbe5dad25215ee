"""How the parameters of BART are called in Hugging Face files."""

from mentallama_jax.formats.architectures.parameter_names import NameTable, Parameter


def _side(side: str) -> tuple[Parameter, ...]:
    def whole(ours: str, name: str) -> Parameter:
        return Parameter((side, *ours.split(".")), f"model.{side}.{name}")

    def layer(ours: str, name: str, inputs: int = 0, *, flat: bool = False) -> Parameter:
        path = (side, "layers", *ours.split("."))
        return Parameter(path, f"model.{side}.layers.{{layer}}.{name}", inputs=inputs, flat=flat)

    def attention(ours: str, name: str) -> tuple[Parameter, ...]:
        inward = (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
        return (
            *(layer(f"{ours}.{part}", f"{name}.{theirs}.weight", 1) for part, theirs in inward),
            *(layer(f"{ours}.{part}_bias", f"{name}.{theirs}.bias", flat=True) for part, theirs in inward),
            layer(f"{ours}.output", f"{name}.out_proj.weight", 2),
            layer(f"{ours}.output_bias", f"{name}.out_proj.bias"),
            layer(f"{ours}_norm.scale", f"{name}_layer_norm.weight"),
            layer(f"{ours}_norm.bias", f"{name}_layer_norm.bias"),
        )

    return (
        Parameter((side, "embedding"), f"model.{side}.embed_tokens.weight", tied_to=("embedding",)),
        whole("positions", "embed_positions.weight"),
        whole("embedding_norm.scale", "layernorm_embedding.weight"),
        whole("embedding_norm.bias", "layernorm_embedding.bias"),
        *attention("attention", "self_attn"),
        *(attention("cross_attention", "encoder_attn") if side == "decoder" else ()),
        layer("mlp.up", "fc1.weight", 1),
        layer("mlp.up_bias", "fc1.bias"),
        layer("mlp.down", "fc2.weight", 1),
        layer("mlp.down_bias", "fc2.bias"),
        layer("mlp_norm.scale", "final_layer_norm.weight"),
        layer("mlp_norm.bias", "final_layer_norm.bias"),
    )


LOGITS_BIAS = "final_logits_bias"
BART_NAMES = NameTable(
    (
        Parameter(("embedding",), "model.shared.weight"),
        *_side("encoder"),
        *_side("decoder"),
        Parameter(("head",), "lm_head.weight", tied_to=("embedding",)),
        Parameter(("logits_bias",), LOGITS_BIAS, row=True),
    ),
    prefix="model.",
    # Weights that were saved from inside of a wrapper, as those of BARTScore's training may be.
    renamed=((r"^model\.(?=model\.|lm_head\.|final_logits_bias)", ""),),
    ignored=(r"(model\.)*(encoder|decoder)\.version",),
)
