"""Makes pairs for preference tuning from outputs and the records that they answer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.answer_pairs import KINDS, FaultyPairs, faulty_pairs
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.rewards import consistency_reward
from mentallama_jax.files import write_jsonl
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.policy_sampling import classifier_consistency
from mentallama_jax.jobs.posts_by_id import records_by_id
from mentallama_jax.jobs.reward_model import write_reward_data
from mentallama_jax.storage import AnyPath


def _is_there(row: Prediction, records: Mapping[str, Record], posts_known: bool) -> bool:
    """Whether the record of a row is there, and is about the same post where that is known."""
    record = records.get(row.id)
    return record is not None and (not posts_known or record.post_id == row.post_id)


def make_pairs(
    outputs: Sequence[AnyPath],
    sources: Sequence[str],
    out: Path,
    *,
    kinds: Sequence[str] = KINDS,
    classifiers: str | None = None,
    reward_data: Path | None = None,
    one_sided: bool = False,
) -> FaultyPairs:
    """Write the pairs of outputs with a fault as JSON lines `id,dataset,kind,prompt,chosen,rejected`.

    Args:
        outputs: predictions files.
        sources: of the records that were asked.
        out: a new `.jsonl`.
        kinds: the faults to take, see `evaluation.answer_pairs`.
        classifiers: a folder of classifiers of explanations, which tell inconsistent ones; by default label words do.
        reward_data: a new folder of what a reward model is tuned on, see `jobs.reward_model`; by default none.
        one_sided: keep wrong labels that prefer one label more often than they reject it.

    Raises:
        UserError: an unknown kind, a row without its record, or no pair.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"--kinds {shown(unknown[0])}: there are {', '.join(KINDS)}")
    records = records_by_id(sources)
    rows: list[Prediction] = []
    missing: list[Prediction] = []
    for read in map(read_predictions, outputs):
        rows += read.rows
        missing += [row for row in read.rows if not _is_there(row, records, read.posts_known)]
    if missing:
        raise UserError(
            f"row {shown(missing[0].id)} and {len(missing) - 1} more are not in --data, by id and post; name "
            "their source"
        )
    consistency = consistency_reward if classifiers is None else classifier_consistency(classifiers)
    found = faulty_pairs(rows, records, kinds, consistency, one_sided=one_sided)
    if not found.pairs:
        why = ", ".join(f"{reason} {count}" for reason, count in found.left_out.items())
        raise UserError(f"no answer makes a pair ({why}); give outputs of a weaker model, or samples, or --one-sided")
    if reward_data is not None:
        write_reward_data(reward_data, found.pairs)
    write_jsonl(out, map(asdict, found.pairs))
    return found
