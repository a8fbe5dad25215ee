"""Training and generation on a GPU beside transformers on torch: same shapes, random weights, bfloat16, full rows.

    python tests/benchmarks/gpu_step.py --out FOLDER

The training step is forward, backward, clipping and AdamW with fp32 weights and moments and products in bfloat16
(torch: autocast, sdpa attention, fused AdamW; `torch compiled` after torch.compile). Ours runs with packed rows (our
kernel for segments) and with one example a row (cuDNN). Generation is greedy, batch and prompt fixed, weights in
bfloat16; decoding is the time of all new tokens less that of one. Each side is a process of its own, as both take the
card's memory. Model FLOPs are counted alike for all (see `mentallama bench --help`), MFU is their share of the dense
bf16 peak of the card. Every figure is a line of FOLDER/gpu_step.jsonl; the last lines are rows of Markdown. `--tiny`
runs it all on small shapes on whatever is there.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {
    "SmolLM2-135M": (PRESETS["smollm2-135m"], 8, 2048),
    "LLaMA-2 7B, 8 of 32 layers": (replace(PRESETS["llama2-7b"], num_layers=8), 4, 2048),
}
GENERATED = {
    "SmolLM2-135M": (PRESETS["smollm2-135m"], 32, 512, 128),
    "LLaMA-2 7B": (PRESETS["llama2-7b"], 32, 512, 128),
}
ATTENTION = {"LLaMA-2 7B": (4, 2048, 32, 32, 128), "SmolLM2-135M": (8, 2048, 9, 3, 64)}
TINY = PRESETS["toy"]
SIDES = ("ours packed", "torch", "ours unpacked", "ours generate", "torch generate", "attention", "torch compiled")


def steps(tiny: bool) -> dict[str, tuple[LlamaConfig, int, int]]:
    return dict.fromkeys(SHAPES, (TINY, 2, 64)) if tiny else SHAPES


def generations(tiny: bool) -> dict[str, tuple[LlamaConfig, int, int, int]]:
    return dict.fromkeys(GENERATED, (TINY, 2, 16, 32)) if tiny else GENERATED


def tell(what: str, side: str, shape: str, tokens: int, flops: float, seconds: list[float], peak: float | None) -> None:
    """One figure, as a line of JSON on standard output."""
    median = statistics.median(seconds)
    speed = tokens / median
    line = {"what": what, "side": side, "shape": shape, "tokens": tokens, "median_seconds": median}
    line |= {"least": min(seconds), "most": max(seconds), "repeats": len(seconds), "tokens_per_second": speed}
    line |= {"mfu": speed * flops / peak if peak else None}
    print(json.dumps(line | {"device": device_kind()}), flush=True)


def device_kind() -> str:
    if "torch" in sys.modules:
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    import jax

    return jax.devices()[0].device_kind


def peak_flops(kind: str) -> float | None:
    from mentallama_jax.planning.measure import peak_of

    return peak_of(kind)


def config_of(length: int, rows: int, layout: str):
    from mentallama_jax.config import parse_config

    return parse_config(
        {
            "model": {"source": "toy", "weights": "random", "compute_dtype": "bfloat16", "remat": "none"},
            "data": {"train": ["sample"], "max_length": length, "layout": layout},
            "training": {"run_dir": "-", "steps": 1000, "micro_batch_rows": rows},
        },
        "benchmark",
    )


def ours_step(layout: str, tiny: bool, repeats: int) -> None:
    from mentallama_jax.planning.measure import measure_step

    for name, (model, rows, length) in steps(tiny).items():
        found = measure_step(model, config_of(length, rows, layout), 1, repeats, print)
        side = f"ours {'packed' if layout == 'packed' else 'unpacked'}"
        peak = peak_flops(found.device_kind)
        tell("step", side, name, found.tokens, found.flops_per_token, list(found.seconds), peak)
        print(json.dumps({"compile_seconds": found.compile_seconds, "peak_memory": found.peak_memory}), flush=True)


def ours_generate(tiny: bool, repeats: int) -> None:
    from mentallama_jax.planning.measure import measure_generation

    for name, (model, rows, prompt, new) in generations(tiny).items():
        for one in measure_generation(model, config_of(prompt, rows, "packed"), rows, prompt, new, repeats):
            peak = peak_flops(one.device_kind)
            tell(one.what, "ours", name, one.tokens, one.flops_per_token, list(one.seconds), peak)


def torch_model(shape: LlamaConfig, dtype: str):
    import torch
    from transformers import LlamaConfig as TorchConfig
    from transformers import LlamaForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    previous = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device(device):
        model = LlamaForCausalLM(
            TorchConfig(
                vocab_size=shape.vocab_size,
                hidden_size=shape.hidden_size,
                intermediate_size=shape.intermediate_size,
                num_hidden_layers=shape.num_layers,
                num_attention_heads=shape.num_heads,
                num_key_value_heads=shape.num_kv_heads,
                rms_norm_eps=shape.rms_norm_eps,
                rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
                tie_word_embeddings=shape.tie_embeddings,
                max_position_embeddings=shape.max_positions,
                attn_implementation="sdpa",
            )
        )
    torch.set_default_dtype(previous)
    return model.to(getattr(torch, dtype)), device


def timed(run: Callable[[], None], repeats: int, warm: int = 2) -> list[float]:
    """Seconds of each run, waited for to its end."""
    import torch

    seconds = []
    for _ in range(warm + repeats):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds[warm:]


def torch_step(compiled: bool, tiny: bool, repeats: int) -> None:
    import torch

    from mentallama_jax.planning.cost import model_flops_per_token

    for name, (shape, rows, length) in steps(tiny).items():
        model, device = torch_model(shape, "float32")
        model.train()
        run = torch.compile(model) if compiled else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
        tokens = torch.randint(0, shape.vocab_size, (rows, length), device=device)

        def step(model=model, run=run, optimizer=optimizer, tokens=tokens, device=device) -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16):
                loss = run(input_ids=tokens, labels=tokens, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        seconds = timed(step, repeats, warm=3)
        side = "torch compiled" if compiled else "torch"
        flops, peak = model_flops_per_token(shape, length), peak_flops(device_kind())
        tell("step", side, name, rows * length, flops, seconds, peak)
        if device == "cuda":
            print(json.dumps({"peak_memory": torch.cuda.max_memory_allocated()}), flush=True)
        del model, run, optimizer, step
        if device == "cuda":
            torch.cuda.empty_cache()


def torch_generate(tiny: bool, repeats: int) -> None:
    import torch

    from mentallama_jax.planning.cost import decode_flops_per_token, prefill_flops_per_token

    for name, (shape, rows, prompt, new) in generations(tiny).items():
        model, device = torch_model(shape, "bfloat16")
        model.eval()
        tokens = torch.randint(10, shape.vocab_size, (rows, prompt), device=device)
        mask = torch.ones_like(tokens)

        def answer(count: int, model=model, tokens=tokens, mask=mask) -> None:
            sizes = {"max_new_tokens": count, "min_new_tokens": count, "pad_token_id": 0}
            with torch.inference_mode():
                model.generate(tokens, attention_mask=mask, do_sample=False, **sizes)

        few = max(2, repeats // 3)
        first = timed(lambda answer=answer: answer(1), few, warm=1)
        whole = timed(lambda answer=answer, new=new: answer(new), few, warm=1)
        peak = peak_flops(device_kind())
        tell("prefill", "torch", name, rows * prompt, prefill_flops_per_token(shape, prompt), first, peak)
        rest = [one - statistics.median(first) for one in whole]
        tell("decode", "torch", name, rows * (new - 1), decode_flops_per_token(shape, prompt, new), rest, peak)
        del model, answer
        if device == "cuda":
            torch.cuda.empty_cache()


def attention(tiny: bool, repeats: int) -> None:
    """Forward and backward of causal attention alone: a full row, and 11 segments a row."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from mentallama_jax.models.attention.cudnn import cudnn_attention
    from mentallama_jax.models.attention.gpu import segment_attention

    on_gpu = jax.default_backend() == "gpu"
    for name, (rows, length, heads, kv_heads, width) in ATTENTION.items():
        if tiny:
            rows, length = 1, 64
        shapes = [(rows, length, n, width) for n in (heads, kv_heads, kv_heads)]
        q, k, v = (jnp.asarray(np.random.default_rng(n).normal(size=s), jnp.bfloat16) for n, s in enumerate(shapes))
        full = jnp.ones((rows, length), jnp.int32)
        packed = jnp.broadcast_to(jnp.arange(length) * 11 // length + 1, (rows, length)).astype(jnp.int32)
        kernels = {
            "segments, one a row": (segment_attention, full, {"interpret": not on_gpu}),
            "segments, 11 a row": (segment_attention, packed, {"interpret": not on_gpu}),
            "cuDNN, one a row": (cudnn_attention, full, {"implementation": "cudnn" if on_gpu else "xla"}),
        }
        for kernel, (attend, segments, options) in kernels.items():
            loss = lambda q, k, v, s, a=attend, o=options: jnp.sum(a(q, k, v, s, **o).astype(jnp.float32))  # noqa: E731
            run = jax.jit(jax.grad(loss, (0, 1, 2)))
            jax.block_until_ready(run(q, k, v, segments))
            seconds = []
            for _ in range(repeats):
                start = time.perf_counter()
                for _ in range(10):
                    out = run(q, k, v, segments)
                jax.block_until_ready(out)
                seconds.append((time.perf_counter() - start) / 10)
            # Forward 2, backward 5 products of half a square of scores.
            flops = 7 * length * heads * width
            tell("attention", kernel, name, rows * length, flops, seconds, peak_flops(device_kind()))


def torch_attention(tiny: bool, repeats: int) -> None:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, (rows, length, heads, kv_heads, width) in ATTENTION.items():
        if tiny:
            rows, length = 1, 64
        sizes = [(rows, n, length, width) for n in (heads, kv_heads, kv_heads)]
        q, k, v = (torch.randn(s, device=device, dtype=torch.bfloat16, requires_grad=True) for s in sizes)

        def run(q=q, k=k, v=v) -> None:
            for _ in range(10):
                out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
                torch.autograd.grad(out.sum(), (q, k, v))

        seconds = [one / 10 for one in timed(run, repeats)]
        tell("attention", "torch", name, rows * length, 7 * length * heads * width, seconds, peak_flops(device_kind()))


def run_side(side: str, tiny: bool, repeats: int) -> None:
    {
        "ours packed": lambda: ours_step("packed", tiny, repeats),
        "ours unpacked": lambda: ours_step("bucketed", tiny, repeats),
        "ours generate": lambda: ours_generate(tiny, repeats),
        "torch": lambda: torch_step(False, tiny, repeats),
        "torch compiled": lambda: torch_step(True, tiny, repeats),
        "torch generate": lambda: torch_generate(tiny, repeats),
        "attention": lambda: attention(tiny, repeats),
        "torch attention": lambda: torch_attention(tiny, repeats),
    }[side]()


def markdown(lines: list[dict]) -> list[str]:
    """Rows of a table: what, shape, ours and theirs."""
    rows = ["| what | shape | who | tokens/s | ms | MFU | device |", "|---|---|---|---|---|---|---|"]
    for one in sorted(lines, key=lambda line: (line["what"], line["shape"])):
        share = f"{one['mfu']:.1%}" if one["mfu"] else "-"
        low, high = 1e3 * one["least"], 1e3 * one["most"]
        rows.append(
            f"| {one['what']} | {one['shape']} | {one['side']} | {one['tokens_per_second']:,.0f} | "
            f"{1e3 * one['median_seconds']:.2f} ({low:.2f} to {high:.2f}) | {share} | {one['device']} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu_step.jsonl")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try the script itself")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--budget", type=float, default=270, help="seconds after which no other side begins")
    parser.add_argument("--sides", nargs="+", default=[*SIDES[:6], "torch attention", SIDES[6]])
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run_side(options.side, options.tiny, options.repeats)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    begin, lines, failed = time.monotonic(), [], []
    for side in options.sides:
        left = options.budget - (time.monotonic() - begin)
        if left <= 0:
            print(f"{side}: left out, as {options.budget:.0f} s are over", flush=True)
            continue
        command = [sys.executable, __file__, "--out", str(options.out), "--side", side]
        command += ["--repeats", str(options.repeats), *(["--tiny"] if options.tiny else [])]
        start = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()) as child:
            for text in child.stdout or ():
                print(f"{side}: {text}", end="", flush=True)
                if text.startswith('{"what"'):
                    lines.append(json.loads(text))
                    with (options.out / "gpu_step.jsonl").open("a", encoding="utf-8") as file:
                        file.write(text)
        print(f"{side}: exit {child.returncode} after {time.monotonic() - start:.0f} s", flush=True)
        failed += [side] if child.returncode else []
    print("\n".join(markdown(lines)), flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def environment() -> dict[str, str]:
    """The flags of tests slow a program down."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"} | {"PYTHONPATH": path}


if __name__ == "__main__":
    main()
