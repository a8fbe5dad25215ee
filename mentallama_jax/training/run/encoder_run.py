"""Reads the classifier that a run has trained."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mentallama_jax.config import RunConfig
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import Params, abstract_params
from mentallama_jax.models.registry import encoder
from mentallama_jax.storage import AnyPath
from mentallama_jax.training.run.checkpoints import Which, load_params
from mentallama_jax.training.run.manifest import Checkpoint
from mentallama_jax.training.run.opened_run import describe_run, refuse_adapter


class EncoderRun(NamedTuple):
    """What is made of a run that trained a classifier."""

    model_config: BertConfig
    params: Params
    tokenizer: Path
    config: RunConfig
    checkpoint: Checkpoint


def load_encoder_run(run_dir: str | AnyPath, which: Which = "best") -> EncoderRun:
    """Read the encoder of a run onto the first device, in fp32.

    Args:
        run_dir: a run directory, finished or not.
        which: the checkpoint: "best" by the run's metric (the last where nothing was evaluated), "last", or a step.

    Raises:
        UserError: not a run directory, not that of an encoder, no such checkpoint, or a damaged one.
    """
    described, tokenizer, config, checkpoint = describe_run(run_dir, which)
    model = encoder(described, run_dir)
    refuse_adapter(config, run_dir)
    first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    placed = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=first), abstract_params(model, jnp.float32)
    )
    return EncoderRun(model, load_params(checkpoint, placed), tokenizer, config, checkpoint)
