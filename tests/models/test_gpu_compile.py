"""The kernels for GPUs compiled to machine code by Triton's own compiler, which needs no GPU (`pip install triton`)."""

import jax
import jax.numpy as jnp
import pytest
from jax._src.lib import triton as triton_dialect
from jax._src.lib.mlir import ir
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, use_abstract_mesh

from mentallama_jax.models.attention.forms import PLAIN, Form
from mentallama_jax.models.attention.gpu import segment_attention

SHARED_MEMORY = {80: 163 * 1024, 86: 99 * 1024, 90: 227 * 1024}
"""Bytes that a block of threads may share, by compute capability: A100; A10 and RTX 30; H100."""


def custom_calls(operation):
    """The settings of every kernel in a lowered program."""
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                attributes = inner.operation.attributes
                if "call_target_name" in attributes and "triton" in str(attributes["call_target_name"]):
                    yield attributes["mhlo.backend_config"]
                yield from custom_calls(inner.operation)


def as_text(bytecode):
    with ir.Context() as context, ir.Location.unknown():
        triton_dialect.dialect.register_dialect(context)
        return ir.Module.parse(bytecode).operation.get_asm(enable_debug_info=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
@pytest.mark.parametrize("form", [PLAIN, Form(causal=False), Form(causal=False, cross=True)], ids=str)
@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 128), ("bfloat16", 64), ("float32", 128)])
def test_triton_compiles_the_kernels(dtype, width, form, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget

    device = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu")
    mesh = AbstractMesh((1,), ("data",), axis_types=(AxisType.Auto,), abstract_device=device)
    keys = 1500 if form.cross else 2048
    q, k = (jax.ShapeDtypeStruct((2, length, heads, width), dtype) for length, heads in ((2048, 8), (keys, 4)))
    own, other = (jax.ShapeDtypeStruct((2, length), jnp.int32) for length in (2048, keys))

    def gradients(q, k, v, own, other):
        options = {"key_segment_ids_BS": other if form.cross else None, "form": form}
        out, pull = jax.vjp(lambda *qkv: segment_attention(*qkv, own, **options), q, k, v)
        return pull(out)

    with use_abstract_mesh(mesh):
        lowered = jax.jit(gradients).trace(q, k, k, own, other).lower(lowering_platforms=("cuda",))
    kernels = list(custom_calls(lowered.compiler_ir().operation))
    assert len(kernels) == 3
    for kernel in kernels:
        source = tmp_path / "kernel.ttir"
        source.write_text(as_text(kernel["ir"].value_bytes))
        options = {name: kernel[name].value for name in ("num_warps", "num_stages")}
        for capability, limit in SHARED_MEMORY.items():
            compiled = triton.compile(str(source), target=GPUTarget("cuda", capability, 32), options=options)
            assert compiled.asm["cubin"][:4] == b"\x7fELF"
            assert compiled.metadata.shared <= limit
            assert dtype == "float32" or "mma" in compiled.asm["ptx"]  # matrix units do the products
