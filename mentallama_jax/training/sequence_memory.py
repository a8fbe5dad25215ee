"""What the activations of an encoder-decoder take in a step of training, about; see `preflight`."""

from mentallama_jax.config import RunConfig, SequenceSection
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.registry import SequenceConfig
from mentallama_jax.models.remat import saved_tensors
from mentallama_jax.training.data.batch_spec import paired_texts
from mentallama_jax.training.loss import CHUNK_TOKENS


def sequence_activations(model: SequenceConfig, config: RunConfig, rows: float, row_length: int, tensor: int) -> int:
    """Bytes on one device.

    Args:
        model: the shape.
        config: of the run.
        rows: of a micro-batch on a device; a fraction where devices share the tokens of a row.
        row_length: tokens of sources in a row.
        tensor: devices that share heads and widths.
    """
    assert isinstance(config.objective, SequenceSection)
    width = 4 if config.model.compute_dtype == "float32" else 2
    spec = paired_texts(config.data.max_length, config.objective.target_length)
    targets = spec.row_tokens(row_length) - row_length
    D = model.hidden_size
    if isinstance(model, BartConfig):
        heads = (model.encoder_heads, model.decoder_heads)
        inner = (model.encoder_intermediate, model.decoder_intermediate)
        projected = D
    else:
        heads, inner = (model.num_heads,) * 2, (model.intermediate_size * (2 if model.gated else 1),) * 2
        projected = model.num_heads * model.head_dim
    # Of a token: what stands between the parts of a layer, and what projections and feed-forward hold.
    encoder = row_length * (4 * D + (4 * projected + 2 * inner[0]) / tensor) * width
    encoder += 2 * 4 * row_length * row_length * heads[0] / tensor
    decoder = targets * (6 * D + (6 * projected + 2 * inner[1]) / tensor) * width
    decoder += row_length * 2 * projected / tensor * width  # keys and values of the source
    decoder += 2 * 4 * targets * (targets + row_length) * heads[1] / tensor
    if saved_tensors(config.model.remat) is None:
        kept = model.encoder_layers * encoder + model.decoder_layers * decoder
    else:
        between = (model.encoder_layers * row_length + model.decoder_layers * targets) * D * width
        kept = 2 * max(encoder, decoder) + 3 * between
    logits = 3 * 4 * min(rows * targets, CHUNK_TOKENS) * model.vocab_size / tensor
    return int(rows * kept + logits)
