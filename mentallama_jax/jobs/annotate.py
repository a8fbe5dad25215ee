"""Makes a study out of predictions: files in which people mark answers."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.people.study_export import FORMS, FileForm, Study, make_study, write_study
from mentallama_jax.evaluation.people.study_instructions import CRITERIA
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.storage import AnyPath, as_path


class Annotated(NamedTuple):
    """A study, and the files of its annotators."""

    study: Study
    paths: list[Path]


def annotate(
    predictions: Sequence[str | AnyPath],
    data: Sequence[str],
    out: str | Path,
    *,
    rows: int,
    annotators: int = 3,
    criteria: Sequence[str] = CRITERIA,
    form: FileForm = "csv",
    seed: int = 0,
) -> Annotated:
    """Choose answers and write a study.

    Args:
        predictions: one a system, named after the system.
        data: sources of the posts, matched by the ids of rows.
        out: a new folder.
        rows: questions to choose; each gives an answer a system.
        annotators: files to write.
        criteria: what is marked, of `study_instructions.CRITERIA`.
        form: "csv" or "jsonl".
        seed: of the choice and of the orders.

    Raises:
        UserError: an argument out of range, two systems of one name, or rows that do not suffice.
    """
    if rows < 1 or annotators < 1 or seed < 0:
        raise UserError("--rows and --annotators must be 1 or more, and --seed 0 or more")
    if form not in FORMS:
        raise UserError(f"--form {form}: there are {', '.join(FORMS)}")
    unknown = [name for name in criteria if name not in CRITERIA]
    if unknown or not criteria:
        raise UserError(f"--criteria {', '.join(unknown)}: there are {', '.join(CRITERIA)}")
    places = [as_path(place) for place in predictions]
    repeated = [name for name, count in Counter(place.stem for place in places).items() if count > 1]
    if repeated:
        raise UserError(f"two PREDICTIONS are called {repeated[0]}; rename one, as systems are named after files")
    systems = {place.stem: read_predictions(place).rows for place in places}
    records = read_records(list(data), need_labels=False).records
    study = make_study(systems, records, list(dict.fromkeys(criteria)), rows, seed)
    files = [
        {"system": place.stem, "file": str(place), "sha256": hashlib.sha256(place.read_bytes()).hexdigest()}
        for place in places
        if place.is_file()
    ]
    return Annotated(study, write_study(Path(out), study, annotators, form, files))
