"""How the parameters of T5 are called in Hugging Face files."""

from mentallama_jax.formats.architectures.parameter_names import NameTable, Parameter


def _side(side: str) -> tuple[Parameter, ...]:
    def layer(ours: str, name: str, inputs: int = 0) -> Parameter:
        return Parameter((side, "layers", *ours.split(".")), f"{side}.block.{{layer}}.layer.{name}", inputs=inputs)

    def attention(ours: str, place: int, name: str) -> tuple[Parameter, ...]:
        return (
            layer(f"{ours}_norm.scale", f"{place}.layer_norm.weight"),
            layer(f"{ours}.query", f"{place}.{name}.q.weight", 1),
            layer(f"{ours}.key", f"{place}.{name}.k.weight", 1),
            layer(f"{ours}.value", f"{place}.{name}.v.weight", 1),
            layer(f"{ours}.output", f"{place}.{name}.o.weight", 2),
        )

    mlp = 2 if side == "decoder" else 1
    return (
        Parameter((side, "embedding"), f"{side}.embed_tokens.weight", tied_to=("embedding",)),
        Parameter((side, "relative_bias"), f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        *attention("attention", 0, "SelfAttention"),
        *(attention("cross_attention", 1, "EncDecAttention") if side == "decoder" else ()),
        layer("mlp_norm.scale", f"{mlp}.layer_norm.weight"),
        layer("mlp.inner", f"{mlp}.DenseReluDense.wi.weight", 1),
        layer("mlp.gate", f"{mlp}.DenseReluDense.wi_0.weight", 1),
        layer("mlp.up", f"{mlp}.DenseReluDense.wi_1.weight", 1),
        layer("mlp.down", f"{mlp}.DenseReluDense.wo.weight", 1),
        Parameter((side, "final_norm", "scale"), f"{side}.final_layer_norm.weight"),
    )


HEAD = "lm_head.weight"
T5_NAMES = NameTable(
    (
        Parameter(("embedding",), "shared.weight"),
        *_side("encoder"),
        *_side("decoder"),
        Parameter(("head",), HEAD, inputs=1, tied_to=("embedding",)),
    ),
    # Older files hold a table that the decoder's attention to the source never reads.
    ignored=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
)
