"""A checkpoint is read one tensor at a time, and large stacked parameters are stored so that this stays small."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mentallama_jax.config import parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.training.run import checkpoints
from mentallama_jax.training.run.checkpoints import Checkpoints, find_checkpoint
from mentallama_jax.training.run.layerwise import CheckpointTensors

LAYERS = 5


def state(dtype: Any) -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "embedding": jax.random.normal(keys[0], (64, 16), dtype),
        "layers": {
            "norm": jax.random.normal(keys[1], (LAYERS, 16), dtype),
            "query": jax.random.normal(keys[2], (LAYERS, 16, 4, 8), dtype),
        },
    }
    return {"params": params, "opt_state": {"count": jnp.zeros(1)}, "step": jnp.int32(1)}


@pytest.mark.parametrize("large", [1, 1 << 30])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_tensors_are_those_that_were_saved(
    tmp_path: Path, dtype: Any, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_LARGE", large)
    values = {"model": {"source": "toy"}, "data": {"train": ["sample"]}, "training": {"run_dir": "r", "steps": 1}}
    config = parse_config(values, "test")
    saved = state(dtype)
    with Checkpoints(tmp_path / "checkpoints", config) as directory:
        directory.save(1, saved)
    checkpoint = find_checkpoint(tmp_path / "checkpoints", "last", "validation_loss")
    tensors = CheckpointTensors(checkpoint)
    params = saved["params"]
    assert tensors.read(("embedding",), 0).tobytes() == np.asarray(params["embedding"]).tobytes()
    for name in ("norm", "query"):
        for layer in range(LAYERS):
            read = tensors.read(("layers", name), layer)
            expected = np.asarray(params["layers"][name][layer])
            assert (read.dtype, read.shape, read.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    chunk = tensors._arrays["layers", "query"].chunk_layout.read_chunk.shape
    assert chunk == ((1, 16, 4, 8) if large == 1 else (LAYERS, 16, 4, 8))
    with pytest.raises(UserError, match=r"00000001: layers\.nothing: not valid array of a checkpoint"):
        tensors.read(("layers", "nothing"), 0)
