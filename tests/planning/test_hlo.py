"""Reading scheduled HLO: hand-computed figures on a small module, and agreement with the reference reader."""

import importlib.util
import json
from collections import defaultdict
from pathlib import Path

import pytest

from mentallama_jax.planning.hlo import Collective, Costly, Kernel, Program, group_axes, read_phases, read_program
from mentallama_jax.planning.hlo_text import moved_bytes

SMALL = (Path(__file__).parent / "small.hlo").read_text("utf-8")
MESH = {"data": 2, "fsdp": 4, "tensor": 1, "sequence": 1}


def reference():
    path = Path(__file__).resolve().parents[3] / "shared" / "tools" / "hlo_report.py"
    if not path.is_file():
        pytest.skip("the reference reader is not beside this repository (../shared/tools/hlo_report.py)")
    spec = importlib.util.spec_from_file_location("hlo_report", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_definition(program: Program) -> dict:
    collectives = defaultdict(lambda: [0, 0])
    for one in program.collectives:
        collectives[one.opcode][0] += one.written
        collectives[one.opcode][1] += one.written_bytes
    return {
        "matmul_tflop": round(program.matmul_flops / 1e12, 3),
        "estimated_cycles": program.cycles,
        "collectives": {
            name: {"times": times, "output_gb": round(count / 1e9, 3)}
            for name, (times, count) in sorted(collectives.items())
            if times
        },
        "custom_calls": program.custom_calls,
    }


def test_figures_of_a_small_module_as_computed_by_hand():
    program = read_program(SMALL, MESH)
    # The loop counts from 0 to 6 in steps of 2: three times; a product of [4, 8] and [8, 16] is 2 x 4 x 8 x 16.
    assert program.matmul_flops == 3 * 1024
    assert program.categories == {"matmul": 3000, "copies": 20, "other": 50}
    assert program.cycles == 3070
    # A gather to bf16[8, 16] (256 bytes) is written where it starts and where it ends, and is one operation.
    gather = Collective("all-gather", ("fsdp",), 4, times=3, result_bytes=768, written=6, written_bytes=1536)
    reduce = Collective("all-reduce", ("data",), 2, times=1, result_bytes=512, written=1, written_bytes=512)
    assert program.collectives == (gather, reduce)
    assert program.kernels == (Kernel("splash_mha_fwd", (1, 2, 128, 64), 3),)
    assert program.top[0] == Costly("fusion jit(step)/mlp", 3, 3000)


def test_copies_beside_other_work_are_counted_by_what_they_move():
    """Starts of copies as the compiler writes them: operand, result and what it signals with, in either order."""
    slow, fast = "bf16[64,4,640,128]{3,2,1,0:T(8,128)(2,1)}", "bf16[16,4,640,128]{3,2,1,0:T(8,128)(2,1)S(1)}"
    assert moved_bytes(f"(({slow}), {fast}, s32[]{{:S(2)}})") == 2 * 16 * 4 * 640 * 128
    both = "bf16[4,8]{1,0:T(8,128)(2,1)S(1)}, bf16[4,8]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}"
    assert moved_bytes(f"({both})") == 64
    assert moved_bytes("(f32[8]{0:T(128)S(1)}, f32[8]{0:T(128)S(1)}, u32[]{:S(2)})") == 0
    assert moved_bytes("(f32[8]{0:T(128)}, f32[8]{0:T(128)}, u32[]{:S(2)})") == 0
    copy = f"  %start.1 = ({both}) copy-start(bf16[4,8]{{1,0}} %p)\n"
    head = SMALL.index("\n", SMALL.index("ENTRY ")) + 1
    assert read_program(SMALL[:head] + copy + SMALL[head:], MESH).copied_beside == 64
    assert read_program(SMALL, MESH).copied_beside == 0


def test_scratch_memory_of_a_kernel_is_not_its_output():
    """The outputs of the splash kernel as the compiler writes them: running maxima, sums and outputs come first."""
    scratch = "f32[2,512,128]{2,1,0:T(8,128)}"
    kept = "bf16[2,32,2048,128]{3,2,1,0:T(8,128)(2,1)S(1)}, f32[2,32,2048,128]{3,2,1,0:T(8,128)S(1)}"
    text = SMALL.replace(
        "(bf16[1,2,128,64]{3,2,1,0}, f32[1,2,128]{2,1,0})", f"({scratch}, {scratch}, {scratch}, {kept})"
    )
    assert text != SMALL
    assert read_program(text, MESH).kernels == (Kernel("splash_mha_fwd", (2, 32, 2048, 128), 3),)


def test_the_loop_without_a_count_runs_as_often_as_it_is_said():
    dynamic = SMALL.replace("%limit.1 = s32[] constant(6)", "%limit.1 = s32[] get-tuple-element(%state.1), index=1")
    dynamic = dynamic.replace("get-tuple-element(%state.1), index=0", "copy(%limit.1)")
    assert read_program(dynamic, MESH).matmul_flops == 1024
    assert read_program(dynamic, MESH, micro_batches=5).matmul_flops == 5 * 1024


def test_a_loop_is_told_from_what_surrounds_it():
    surroundings, step = read_phases(SMALL, MESH)
    assert (surroundings.cycles, surroundings.matmul_flops, surroundings.kernels) == (70, 0, ())
    assert (step.cycles, step.matmul_flops) == (1000, 1024)
    assert step.kernels == (Kernel("splash_mha_fwd", (1, 2, 128, 64), 1),)
    with pytest.raises(ValueError, match="no loop"):
        read_phases(SMALL.replace(" while(", " copy("), MESH)


def test_an_all_reduce_fused_with_its_slice_is_a_reduce_scatter():
    text = SMALL.replace("%scale ", "%all-reduce-scatter.1 ").replace("calls=%scale", "calls=%all-reduce-scatter.1")
    fused = "%all-reduce.9 = f32[8,16]{1,0} all-reduce(%p.5), channel_id=3, replica_groups=[2,4]<=[8], to_apply=%sum"
    text = text.replace("ROOT %multiply.1", f"{fused}\n  ROOT %multiply.1")
    found = {one.opcode: one for one in read_program(text, MESH).collectives if one.axes == ("fsdp",)}
    assert found["reduce-scatter"].result_bytes == 512 // 4
    assert (found["all-reduce"].times, found["all-reduce"].written_bytes) == (0, 512)


def test_a_program_survives_json():
    program = read_program(SMALL, MESH)
    assert Program.from_json(json.loads(json.dumps(program.to_json()))) == program


@pytest.mark.parametrize(
    ("text", "axes", "group"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", ("fsdp",), 4),
        ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", ("data",), 2),
        ("replica_groups=[2,4]<=[8]", ("fsdp",), 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", ("data",), 2),
        ("replica_groups=[1,8]<=[8]", ("data", "fsdp"), 8),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", ("fsdp",), 4),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_0'}", ("data",), 2),
        ("source_target_pairs={{0,1},{1,2},{2,3},{3,0}}", ("fsdp",), 2),
        ("replica_groups={}", ("?",), 8),
        ("replica_groups=mesh['axis_0'=8] {'axis_0':(1)2}", ("?",), 8),
    ],
)
def test_groups_are_read_as_mesh_axes(text, axes, group):
    assert group_axes(f"x, {text}, use_global_device_ids=true", MESH) == (axes, group)


def test_agreement_with_the_reference_reader():
    assert by_definition(read_program(SMALL, MESH)) == reference().Module(SMALL).report()
