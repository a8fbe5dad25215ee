"""Published shapes by name."""

from collections.abc import Mapping
from dataclasses import replace

from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.bert import BertConfig, RobertaConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.t5 import T5Config

_LLAMA2_7B = LlamaConfig(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_layers=32,
    num_heads=32,
    num_kv_heads=32,
    head_dim=128,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    rope_scaling=None,
    tie_embeddings=False,
    max_positions=4096,
)
_LLAMA2_13B = replace(
    _LLAMA2_7B, hidden_size=5120, intermediate_size=13824, num_layers=40, num_heads=40, num_kv_heads=40
)
_LLAMA_33B = replace(
    _LLAMA2_7B,
    hidden_size=6656,
    intermediate_size=17920,
    num_layers=60,
    num_heads=52,
    num_kv_heads=52,
    rms_norm_eps=1e-6,
    max_positions=2048,
)
_LLAMA2_70B = replace(
    _LLAMA2_7B, hidden_size=8192, intermediate_size=28672, num_layers=80, num_heads=64, num_kv_heads=8
)

PRESETS: Mapping[str, LlamaConfig] = {
    "llama2-7b": _LLAMA2_7B,
    "llama2-chat-7b": _LLAMA2_7B,
    "llama2-13b": _LLAMA2_13B,
    "llama2-chat-13b": _LLAMA2_13B,
    "llama-33b": _LLAMA_33B,
    "llama2-70b": _LLAMA2_70B,
    "smollm2-135m": LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        rms_norm_eps=1e-5,
        rope_theta=100000.0,
        rope_scaling=None,
        tie_embeddings=True,
        max_positions=8192,
    ),
    "toy": LlamaConfig(
        vocab_size=1024,
        hidden_size=128,
        intermediate_size=352,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        rope_scaling=None,
        tie_embeddings=True,
        max_positions=1024,
    ),
}

ENCODER_PRESETS: Mapping[str, BertConfig] = {
    "toy-encoder": BertConfig(
        vocab_size=1024,
        hidden_size=64,
        intermediate_size=256,
        num_layers=2,
        num_heads=4,
        max_positions=256,
        position_offset=0,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        activation="gelu",
        pooler=True,
        num_labels=0,
        dropout=0.1,
        classifier_dropout=0.1,
    ),
    "bert-base": BertConfig(
        vocab_size=30522,
        hidden_size=768,
        intermediate_size=3072,
        num_layers=12,
        num_heads=12,
        max_positions=512,
        position_offset=0,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        activation="gelu",
        pooler=True,
        num_labels=0,
        dropout=0.1,
        classifier_dropout=0.1,
    ),
    "roberta-base": RobertaConfig(
        vocab_size=50265,
        hidden_size=768,
        intermediate_size=3072,
        num_layers=12,
        num_heads=12,
        max_positions=514,  # the first two stand for padding
        position_offset=2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        activation="gelu",
        pooler=True,
        num_labels=0,
        dropout=0.1,
        classifier_dropout=0.1,
    ),
}

_TOY_BART = BartConfig(
    vocab_size=1024,
    hidden_size=64,
    encoder_layers=2,
    decoder_layers=2,
    encoder_heads=4,
    decoder_heads=4,
    encoder_intermediate=256,
    decoder_intermediate=256,
    max_positions=512,
    activation="gelu",
    scale_embedding=False,
    logits_bias=True,
    dropout=0.1,
    pad_id=0,  # the special tokens of the bundled sample's word pieces: [PAD], and [SEP] twice
    start_id=3,
    end_id=3,
)
_T5_LARGE = T5Config(
    vocab_size=32128,
    hidden_size=1024,
    head_dim=64,
    intermediate_size=4096,
    encoder_layers=24,
    decoder_layers=24,
    num_heads=16,
    buckets=32,
    max_distance=128,
    layer_norm_eps=1e-6,
    activation="relu",
    gated=False,
    tie_embeddings=True,
    scale_outputs=True,
    dropout=0.1,
    pad_id=0,
    start_id=0,
    end_id=1,
)

SEQUENCE_PRESETS: Mapping[str, BartConfig | T5Config] = {
    "toy-bart": _TOY_BART,
    "toy-t5": replace(
        _T5_LARGE,
        vocab_size=1024,
        hidden_size=64,
        head_dim=16,
        intermediate_size=256,
        encoder_layers=2,
        decoder_layers=2,
        num_heads=4,
        end_id=3,  # [SEP] of the bundled sample's word pieces
    ),
    "t5-large": _T5_LARGE,
    "bart-large": BartConfig(  # of bart-large-cnn, whose table lacks the mask token
        vocab_size=50264,
        hidden_size=1024,
        encoder_layers=12,
        decoder_layers=12,
        encoder_heads=16,
        decoder_heads=16,
        encoder_intermediate=4096,
        decoder_intermediate=4096,
        max_positions=1024,
        activation="gelu",
        scale_embedding=False,
        logits_bias=True,
        dropout=0.1,
        pad_id=1,
        start_id=2,
        end_id=2,
    ),
}
