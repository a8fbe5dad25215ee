"""How the parameters of BERT and RoBERTa are called in Hugging Face files."""

from mentallama_jax.formats.architectures.parameter_names import NameTable, Parameter


def _encoder(prefix: str) -> tuple[Parameter, ...]:
    def layer(ours: str, name: str, inputs: int = 0, *, flat: bool = False) -> Parameter:
        path = ("layers", *ours.split("."))
        return Parameter(path, f"{prefix}encoder.layer.{{layer}}.{name}", inputs=inputs, flat=flat)

    return (
        Parameter(("embedding",), f"{prefix}embeddings.word_embeddings.weight"),
        Parameter(("positions",), f"{prefix}embeddings.position_embeddings.weight"),
        Parameter(("types",), f"{prefix}embeddings.token_type_embeddings.weight"),
        Parameter(("embedding_norm", "scale"), f"{prefix}embeddings.LayerNorm.weight"),
        Parameter(("embedding_norm", "bias"), f"{prefix}embeddings.LayerNorm.bias"),
        *(
            part
            for name in ("query", "key", "value")
            for part in (
                layer(f"attention.{name}", f"attention.self.{name}.weight", 1),
                layer(f"attention.{name}_bias", f"attention.self.{name}.bias", flat=True),
            )
        ),
        layer("attention.output", "attention.output.dense.weight", 2),
        layer("attention.output_bias", "attention.output.dense.bias"),
        layer("attention_norm.scale", "attention.output.LayerNorm.weight"),
        layer("attention_norm.bias", "attention.output.LayerNorm.bias"),
        layer("mlp.up", "intermediate.dense.weight", 1),
        layer("mlp.up_bias", "intermediate.dense.bias"),
        layer("mlp.down", "output.dense.weight", 1),
        layer("mlp.down_bias", "output.dense.bias"),
        layer("mlp_norm.scale", "output.LayerNorm.weight"),
        layer("mlp_norm.bias", "output.LayerNorm.bias"),
    )


def _head(pooler: str, classifier: str) -> tuple[Parameter, ...]:
    return (
        Parameter(("pooler",), f"{pooler}.weight", inputs=1),
        Parameter(("pooler_bias",), f"{pooler}.bias"),
        Parameter(("classifier",), f"{classifier}.weight", inputs=1),
        Parameter(("classifier_bias",), f"{classifier}.bias"),
    )


_OLD = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
_POSITIONS = r"(.*\.)?embeddings\.position_ids"  # 0, 1, 2 ..: kept by older versions

BERT_NAMES = NameTable(
    (*_encoder("bert."), *_head("bert.pooler.dense", "classifier")),
    prefix="bert.",
    renamed=_OLD,
    ignored=(_POSITIONS, r"cls\..*"),  # the head of pre-training
)
ROBERTA_NAMES = NameTable(
    (*_encoder("roberta."), *_head("classifier.dense", "classifier.out_proj")),
    prefix="roberta.",
    renamed=_OLD,
    ignored=(_POSITIONS, r"lm_head\..*", r"(roberta\.)?pooler\..*"),  # nothing reads the pooler of RoBERTa
)
