"""Beam search of an encoder-decoder against Hugging Face transformers on torch, same random weights, on CPU.

    python tests/benchmarks/beam_search.py                                       (needs the extra `parity`)

A BART of the base shape in fp32 with two threads: 8 sources, 4 beams, targets of a fixed number of tokens (no end token
before, so that both write equally much). transformers' `generate` with its cache and sdpa attention. The two take
turns; the figure is the median over the pairs of runs of new tokens/s ours / theirs. The tokens of both are compared:
they are the same but for ties, as the sums of scores differ in their last digits.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from mentallama_jax.formats.load import load_model  # noqa: E402
from mentallama_jax.generation.beam_search import BeamSearch, search_beams  # noqa: E402
from mentallama_jax.generation.target_rules import TargetRules  # noqa: E402
from mentallama_jax.host_memory import keep_freed_memory  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8, help="sources at once")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--source", type=int, default=128, help="tokens of a source")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5, help="of each, in turns")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    base = {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072}
    base |= {"encoder_attention_heads": 12, "decoder_attention_heads": 12}
    peer = transformers.BartForConditionalGeneration(transformers.BartConfig(**base, attn_implementation="sdpa")).eval()
    with torch.no_grad():  # larger than at the start of training, so that tokens depend on what was read
        for parameter in peer.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    longest = options.new_tokens + 1
    peer.generation_config = transformers.GenerationConfig(
        pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, num_beams=options.beams, max_length=longest,
        min_length=longest,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        config, params = load_model(Path(folder))
    source = np.random.default_rng(0)
    tokens = source.integers(10, config.vocab_size, (options.rows, options.source)).astype(np.int32)
    lengths = np.full(options.rows, options.source, np.int32)
    lengths[1::2] = options.source // 2
    tokens = np.where(np.arange(options.source) < lengths[:, None], tokens, 1)
    mask = torch.tensor(np.arange(options.source) < lengths[:, None]).long()
    rules = TargetRules(longest, (2,), min_length=longest)

    def ours() -> np.ndarray:
        found = search_beams(params, tokens, lengths, config=config, search=BeamSearch(options.beams), rules=rules)
        return np.asarray(found.tokens_BJT[:, 0])

    def theirs() -> np.ndarray:
        with torch.no_grad():
            return peer.generate(input_ids=torch.tensor(tokens), attention_mask=mask).numpy()

    start = time.perf_counter()
    written, wanted = ours(), None
    print(f"first run (with compilation): {time.perf_counter() - start:.1f} s")
    ratios, count = [], options.rows * options.new_tokens
    for run in range(options.runs):
        times = {}
        for name in ("theirs", "ours") if run % 2 else ("ours", "theirs"):
            start = time.perf_counter()
            found = ours() if name == "ours" else theirs()
            times[name] = time.perf_counter() - start
            wanted = found if name == "theirs" else wanted
        ratios.append(times["theirs"] / times["ours"])
        speeds = ", ".join(f"{name} {count / times[name]:.1f}" for name in ("ours", "theirs"))
        print(f"run {run + 1}: {speeds} new tokens/s, ratio {ratios[-1]:.3f}", flush=True)
    same = int(np.sum(np.all(written == wanted, axis=1)))
    print(f"equal targets: {same} of {options.rows}; {jax.devices()[0].device_kind}, load {os.getloadavg()[0]:.1f}")
    print(f"ratio ours/torch: median {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})")


if __name__ == "__main__":
    main()
