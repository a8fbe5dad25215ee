"""The formulas that plan for GPUs, against the very step traced for them."""

import math

import jax
import pytest
from jax.extend.core import jaxprs_in_params
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, use_abstract_mesh

from mentallama_jax.config import load_config
from mentallama_jax.models.presets import PRESETS
from mentallama_jax.parallel.mesh import mesh_sizes
from mentallama_jax.planning.plan import estimate, with_whole_rows
from mentallama_jax.planning.topologies import parse_topology
from mentallama_jax.training.mesh_placement import abstract_batch, abstract_state
from mentallama_jax.training.objectives.supervised import Supervised
from mentallama_jax.training.step import make_train_step

KERNELS = {"segment_attention_forward": 2, "segment_attention_queries": 3, "segment_attention_keys": 4}
"""Products of [T, T] in each."""


def product_flops(jaxpr, micro_batches):
    """Of all devices: every matrix product as often as its loops run, and the causal half of those in kernels."""
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        inputs = [var.aval.shape for var in equation.invars]
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            summed = math.prod(inputs[0][axis] for axis in contracted)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * summed
        elif name == "pallas_call":
            B, T, N, H = inputs[2]
            total += KERNELS[str(params["jaxpr"].debug_info.func_name)] * B * N * T * T * H
        else:
            times = {"scan": params.get("length"), "while": micro_batches}.get(name, 1)
            times = params["mesh"].size if name == "shard_map" else times
            total += times * sum(product_flops(part, micro_batches) for part in jaxprs_in_params(params))
    return total


@pytest.mark.parametrize("remat", ["full", "none"])
def test_the_operations_planned_for_gpus_are_those_of_the_traced_step(remat):
    topology, model, micro_batches = parse_topology("h100-8"), PRESETS["llama2-7b"], 3
    config = with_whole_rows(load_config("configs/llama2-7b.yaml", [f"model.remat={remat}"]), topology)
    sizes = mesh_sizes(config.mesh, topology.devices, topology.slices)
    device = AbstractDevice(device_kind=topology.chip.kind, num_cores=None, platform="gpu")
    mesh = AbstractMesh(
        tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes), abstract_device=device
    )
    with use_abstract_mesh(mesh):
        state = abstract_state(Supervised(model, config), config, 10, mesh)
        batch = abstract_batch(config, mesh, micro_batches)
        shardings = jax.tree.map(lambda x: x.sharding, state)
        traced = make_train_step(Supervised(model, config), config, 10, shardings).trace(state, batch)
    counted = product_flops(traced.jaxpr.jaxpr, micro_batches) / topology.devices
    planned = estimate(model, config, topology, micro_batches).program.matmul_flops
    assert planned == pytest.approx(counted, rel=0.05)
