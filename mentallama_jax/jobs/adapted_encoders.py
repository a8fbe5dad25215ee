"""Reads the encoder of a run, with the adapter merged into its base where the run trained one."""

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from mentallama_jax.config import RunConfig
from mentallama_jax.formats.assembly import assemble
from mentallama_jax.formats.hf_folder import tensors_of_params
from mentallama_jax.formats.peft import TensorsAsFile
from mentallama_jax.jobs.adapter_runs import other_weights, tensors_of_run
from mentallama_jax.jobs.open_encoder import base_encoder
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import Params, abstract_params, init_params
from mentallama_jax.models.registry import encoder
from mentallama_jax.storage import AnyPath
from mentallama_jax.training.run.encoder_run import EncoderRun, load_encoder_run
from mentallama_jax.training.run.opened_run import base_fingerprint, describe_run


def read_encoder_run(run_dir: str | AnyPath) -> EncoderRun:
    """Read the encoder of a run's best checkpoint onto the first device, in fp32.

    Raises:
        UserError: as `load_encoder_run`; or the base of an adapter is gone, or has other weights.
    """
    described, tokenizer, config, checkpoint = describe_run(run_dir)
    if config.adapter is None:
        return load_encoder_run(run_dir)
    model = encoder(described, run_dir)
    read = tensors_of_run(checkpoint, model, config).merged(tensors_of_params(_base(run_dir, config, model)))
    params = assemble(TensorsAsFile(model, read, str(run_dir)), model, jnp.float32)
    return EncoderRun(model, params, tokenizer, config, checkpoint)


def _base(run_dir: str | AnyPath, config: RunConfig, model: BertConfig) -> Params:
    base = base_encoder(config)
    if base.load_params is None:
        return init_params(model, jax.random.key(config.training.seed), config.model.parameter_dtype)
    if base.fingerprint is not None and base_fingerprint(run_dir) != base.fingerprint():
        raise other_weights(run_dir, config)
    first = SingleDeviceSharding(jax.local_devices()[0])
    return base.load_params(jax.tree.map(lambda _: first, abstract_params(model)))
