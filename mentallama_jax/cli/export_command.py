"""`mentallama export`: a run's checkpoint, or any model that can be read, as a Hugging Face folder."""

import argparse
from typing import Any

from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.storage import expanded, local_path

_DESCRIPTION = """\
Write a model as a folder that transformers (and what builds on it) loads: safetensors, config, generation config,
tokenizer and a model card. SOURCE is a run directory, or a model to convert: a Hugging Face folder, a hub id, a .gguf
file, or package:NAME for the .gguf file inside an installed Python package. Of a run that trains an adapter, the base
model with the adapter merged into it is written, or with --adapter-only the adapter alone.

With --push the folder is uploaded to the Hugging Face hub as well, into a private repository. What goes there are
weights, config, tokenizer and a card that says that the model is for research only; nothing that it was tuned on.
Models that were tuned on posts may repeat them. Look at what the data's terms allow before you use --public.
"""

_EPILOG = """\
examples:
  mentallama export runs/toy --out exports/toy
  mentallama export runs/chat-7b --out exports/chat-7b --dtype bfloat16 --scores scores/chat-7b/scores.json
  mentallama export model.gguf --out exports/converted
  mentallama export runs/llama2-7b-lora --out exports/lora --adapter-only
  mentallama export meta-llama/Llama-2-7b-hf --adapter exports/lora --out exports/merged --dtype bfloat16
  mentallama export runs/chat-7b --out exports/chat-7b --push my-group/chat-7b          private; see --public

then, in Python:
  transformers.AutoModelForCausalLM.from_pretrained("exports/toy")   (AutoModelForSeq2SeqLM for BART and T5)
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "export",
        help="write a Hugging Face folder",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=expanded, metavar="SOURCE", help="run directory, or model to convert")
    parser.add_argument("--out", required=True, type=local_path, metavar="FOLDER", help="new folder to write")
    parser.add_argument(
        "--checkpoint",
        choices=("best", "last"),
        help="of a run: best by its metric, or the last one (default: best)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the stored weights; bfloat16 halves the size and rounds (default: float32, as trained)",
    )
    parser.add_argument(
        "--adapter", type=local_path, metavar="FOLDER", help="a PEFT adapter (LoRA, DoRA) to merge into SOURCE first"
    )
    parser.add_argument(
        "--adapter-only",
        action="store_true",
        help="of a run that trains an adapter: write the adapter as PEFT reads it, not the merged model",
    )
    parser.add_argument("--revision", help="of a hub id: branch, tag or commit (default: its main branch)")
    parser.add_argument("--scores", type=local_path, metavar="FILE", help="a scores.json to show in the model card")
    parser.add_argument(
        "--max-shard-gb",
        type=float,
        default=2.0,
        metavar="GB",
        help="split the weights into files of at most this size (default: 2)",
    )
    parser.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="upload the folder into this repository of the hub; made if it is not there",
    )
    parser.add_argument("--public", action="store_true", help="with --push: let everybody see it (default: private)")
    add_tasks(parser, run="source")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Export; print what was written."""
    from mentallama_jax.jobs.export import export

    done = export(
        options.source,
        options.out,
        checkpoint=options.checkpoint,
        adapter=options.adapter,
        adapter_only=options.adapter_only,
        revision=options.revision,
        dtype=options.dtype,
        scores=options.scores,
        max_shard_gb=options.max_shard_gb,
        push=options.push,
        public=options.public,
    )
    dtype = "float32" if options.adapter_only else options.dtype
    print(f"wrote {done.what} to {options.out} ({done.size / 1e6:.1f} MB, {dtype})")
    if done.pushed is not None:
        print(f"pushed to {done.pushed.url} ({'public' if done.pushed.public else 'private'})")
    return 0
