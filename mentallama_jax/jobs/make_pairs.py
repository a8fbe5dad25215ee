"""Makes pairs for preference tuning from outputs and the records that they answer."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.answer_pairs import KINDS, FaultyPairs, faulty_pairs
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.rewards import consistency_reward
from mentallama_jax.files import write_jsonl
from mentallama_jax.foreign import shown
from mentallama_jax.jobs.policy_sampling import classifier_consistency
from mentallama_jax.jobs.posts_by_id import records_by_id
from mentallama_jax.storage import AnyPath


def make_pairs(
    outputs: Sequence[AnyPath],
    sources: Sequence[str],
    out: Path,
    *,
    kinds: Sequence[str] = KINDS,
    classifiers: str | None = None,
) -> FaultyPairs:
    """Write the pairs of outputs with a fault as JSON lines `id,dataset,kind,prompt,chosen,rejected`.

    Args:
        outputs: predictions files.
        sources: of the records that were asked.
        out: a new `.jsonl`.
        kinds: the faults to take, see `evaluation.answer_pairs`.
        classifiers: a folder of classifiers of explanations, which tell inconsistent ones; by default label words do.

    Raises:
        UserError: an unknown kind, a row without its record, or no pair.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"--kinds {shown(unknown[0])}: there are {', '.join(KINDS)}")
    records = records_by_id(sources)
    rows = [row for path in outputs for row in read_predictions(path).rows]
    missing = [row.id for row in rows if row.id not in records]
    if missing:
        raise UserError(f"row {shown(missing[0])} and {len(missing) - 1} more are not in --data; name their source")
    consistency = consistency_reward if classifiers is None else classifier_consistency(classifiers)
    found = faulty_pairs(rows, records, kinds, consistency)
    if not found.pairs:
        why = ", ".join(f"{reason} {count}" for reason, count in found.left_out.items())
        raise UserError(f"no answer makes a pair ({why}); give outputs of a weaker model, or samples")
    write_jsonl(out, map(asdict, found.pairs))
    return found
