"""How a checkpoint is placed: onto a mesh, and within the memory of its shards plus one tensor."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import cpu_environment
from small_models import CARD, TINY, random_params

from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer

SHARDED = """
import sys
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from safetensors.numpy import load_file
from mentallama_jax.formats.load import load_model
mesh = jax.make_mesh((2, 2), ("fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
rules = {
    "embedding": P("tensor", "fsdp"), "head": P("fsdp", "tensor"), "final_norm": {"scale": P()},
    "layers": {
        "attention_norm": {"scale": P(None, "fsdp")}, "mlp_norm": {"scale": P()},
        "attention": {"query": P(None, "fsdp", "tensor"), "key": P(None, "fsdp", "tensor"),
                      "value": P(None, None, None, "fsdp"), "output": P(None, "tensor", None, "fsdp")},
        "mlp": {"gate": P(None, "fsdp", "tensor"), "up": P(None, "fsdp", "tensor"), "down": P(None, "tensor", "fsdp")},
    },
}
shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), rules, is_leaf=lambda x: isinstance(x, P))
config, sharded = load_model(sys.argv[1], sharding=shardings)
whole = load_model(sys.argv[1])[1]
for got, want, sharding in zip(*map(jax.tree.leaves, (sharded, whole, shardings)), strict=True):
    assert got.sharding == sharding, (got.sharding, sharding)
    np.testing.assert_array_equal(got, want)
replicated = load_model(sys.argv[1], sharding=NamedSharding(mesh, P()))[1]
jax.tree.map(np.testing.assert_array_equal, replicated, whole)
print("equal")
"""

PEAK = """
import ctypes, gc, json, sys
from pathlib import Path
import jax, numpy as np
from safetensors.numpy import save_file
from mentallama_jax.formats.architectures.llama_config import write_config
from mentallama_jax.formats.load import load_model
from mentallama_jax.formats.architectures.known_architectures import foreign_shapes
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import count_params

def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

def write(folder, config):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(write_config(config, "float32")))
    tensors = {name: np.ones(shape, np.float32) for name, shape in foreign_shapes(config, "hf").items()}
    save_file(tensors, folder / "model.safetensors")

shape = dict(vocab_size=4000, hidden_size=512, intermediate_size=3072, num_heads=8, num_kv_heads=8, head_dim=64,
             rms_norm_eps=1e-5, rope_theta=1e4, rope_scaling=None, tie_embeddings=False, max_positions=64)
root = Path(sys.argv[1])
config = LlamaConfig(num_layers=16, **shape)
write(root / "model", config)
load_model(root / "model")  # imports and compiled programs, whose memory does not grow with the model
gc.collect()
ctypes.CDLL("libc.so.6").malloc_trim(0)  # else the second load would fill up what the first one left behind
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # reset the peak
params = load_model(root / "model")[1]
peak = status("VmHWM") - before
largest = 4 * max(np.prod(shape) for shape in foreign_shapes(config, "hf").values())
print(json.dumps({"parameters": 4 * count_params(config), "largest": int(largest), "peak": peak}))
"""


def run(code: str, *arguments: str, devices: int = 1, **variables: str) -> str:
    environment = cpu_environment(devices, **variables)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_parameters_arrive_sharded(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_hf(tmp_path / "model", TINY, random_params(TINY), tokenizer, card=CARD, max_shard_bytes=40_000)
    assert run(SHARDED, str(tmp_path / "model"), devices=4) == "equal\n"


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from Linux's /proc")
def test_import_needs_its_parameters_and_little_more(tmp_path: Path) -> None:
    """The tensor as it is read and as it is placed; a second copy of a stack would be sixteen times that."""
    # Large blocks go back to the system when they are freed, so that the peak is what was in use at one time.
    figures = json.loads(run(PEAK, str(tmp_path), MALLOC_MMAP_THRESHOLD_="1000000"))
    print(figures)
    assert figures["peak"] - figures["parameters"] < 3 * figures["largest"]
