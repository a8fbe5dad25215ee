"""Outputs that state a label and give no reason for it."""

from functools import lru_cache

from mentallama_jax.evaluation.trust.quotes import vocabulary_of, words_among
from mentallama_jax.imhi.class_inputs import without_label_sentences
from mentallama_jax.imhi.labels.gold_response import explanation_in
from mentallama_jax.imhi.tasks import Task

_OF_STATEMENTS = vocabulary_of(
    "a an the this that is are be it so there in of to from for with and or as by on not no does do doesnt isnt can"
    " post poster posters author user person they he she their shows show showing showed indicates indicate indicating"
    " suggests suggest suggesting exhibits displays demonstrates suffers suffering suffered has have having experiences"
    " experiencing signs sign symptoms symptom evidence indication indications clear clearly likely present exists"
    " answer label reasoning reason question yes therefore thus hence overall based above given final correct we i"
    " conclude conclusion"
)


def reasons_of(output: str, task: Task) -> str:
    """The explanation of an output without reasoning traces and label sentences; "" where nothing else is left."""
    text = without_label_sentences(explanation_in(output, task), task)
    return "" if words_among(text, _words_of_labels(task)) else text


@lru_cache(64)
def _words_of_labels(task: Task) -> frozenset[str]:
    wordings = [task.question, task.completion_prefix, *task.sentences.values(), *task.completion_words.values()]
    return _OF_STATEMENTS.union(*map(vocabulary_of, (*wordings, *task.aspects)))
