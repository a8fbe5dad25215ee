"""Reads labels from texts with an encoder: its folder, the names of its classes, and packed rows to compute them in."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.formats.fingerprint import source_fingerprint
from mentallama_jax.formats.folder import read_object
from mentallama_jax.formats.load import load_model
from mentallama_jax.formats.notices import notice
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.imhi.class_inputs import ClassInput, output_text, with_question, without_label_sentences
from mentallama_jax.imhi.learnt_classes import LearntClasses
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import Task, task_named
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import Params, bind
from mentallama_jax.models.registry import encoder
from mentallama_jax.scorers.published_classes import PUBLISHED_CLASSES
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES
from mentallama_jax.training.data.batches import evaluation_batches
from mentallama_jax.training.data.classified import TextTokenizer, text_store

CARD = "classifier.json"
"""The small file in a folder that says what a classifier reads: `dataset`, `input`, `labels` in the order of its
classes, `max_length`. Only `labels` is needed of a foreign one. A classifier of several data sets has `data_sets` in
place of the first and the third: name -> labels, in the order of its classes. Without the file classes that have no
names are taken in the order of the published classifiers, where there are any of the data set."""

_ROWS = 8
"""Rows that are computed together."""
_INPUTS = ("post", "explanation", "response")
_LONGEST = 512
"""Tokens of a text of a classifier whose folder does not say."""


@dataclass(frozen=True, slots=True)
class Classes:
    """What the classes of a classifier mean.

    Attributes:
        labels: canonical labels of the task, in the order of the classes.
        named_by: where that order comes from, for the signature.
        input: what the classifier learnt to read; None where its folder does not say.
        max_length: most tokens of a text; None where its folder does not say.
        trained: what it was trained from, as its folder says it; None where that does not.
        first: the first of its classes that is a label of the task, where it has those of several data sets.
        asks: whether it learnt to read every text behind its question, as one of several data sets does.
    """

    labels: tuple[str, ...]
    named_by: str
    input: ClassInput | None = None
    max_length: int | None = None
    trained: Any = None
    first: int = 0
    asks: bool = False


@dataclass(frozen=True)
class LabelClassifier:
    """An encoder that reads labels of one data set; it may have classes of others, which are not looked at.

    Attributes:
        task: the data set.
        classes: what its classes mean.
        config: its shape.
        params: its parameters.
        tokenizer: its own.
        identity: which weights these are, for the signature.
    """

    task: Task
    classes: Classes
    config: BertConfig
    params: Params
    tokenizer: TextTokenizer
    identity: str

    @property
    def max_length(self) -> int:
        """Most tokens of a text; longer ones lose their end."""
        return min(self.classes.max_length or _LONGEST, self.config.longest_text)

    def signature(self) -> dict[str, Any]:
        """All that decides what it reads, as plain JSON values."""
        return {
            "weights": self.identity,
            "tokenizer": self.tokenizer.fingerprint,
            "classes": list(self.classes.labels),
            "classes_named_by": self.classes.named_by,
            "input": self.classes.input,
            "max_length": self.max_length,
            "trained": self.classes.trained,
            **({"question": "before the text"} if self.classes.asks else {}),
        }

    def log_probabilities(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The log-probabilities of the labels (nats) of each text, [texts, labels], and the tokens that each lost.

        The columns are in the order of the task's labels. Texts share rows, which does not change the figures.

        Raises:
            UserError: its `max_length` has no room for a word, or a figure is not finite.
        """
        labels = self.task.labels
        found = np.zeros((len(texts), len(labels)), np.float32)
        if not texts:
            return found, np.zeros(0, np.int32)
        ids = [str(place) for place in range(len(texts))]
        try:
            store = text_store(texts, ids, self.tokenizer, self.max_length)
        except ValueError as error:
            raise UserError(f"the classifier of {self.task.name}: {error}; raise it in its {CARD}") from None
        columns = [labels.index(label) for label in self.classes.labels]
        for batch in evaluation_batches(store, _ROWS, self.max_length):
            arrays = {name: values for name, values in batch.arrays.items() if name != MICRO_BATCHES}
            begins_BT = arrays.pop("labels") >= 0
            of_texts = np.asarray(_computing(self.config)(self.params, **arrays))[begins_BT]
            if len(labels) < self.config.num_labels:
                of_texts = log_softmax(of_texts[:, self.classes.first : self.classes.first + len(labels)], axis=-1)
            found[batch.examples[:, None], columns] = of_texts
        if not np.isfinite(found).all():
            raise UserError(
                f"the classifier of {self.task.name} gives figures that are not finite; its weights are bad"
            )
        return found, store.truncated

    def read(self, texts: Sequence[str]) -> list[str]:
        """The likeliest label of each text."""
        found, _ = self.log_probabilities(texts)
        return [self.task.labels[place] for place in found.argmax(axis=-1)]


@lru_cache(maxsize=8)
def _computing(config: BertConfig) -> Any:
    """The program of a shape, one for all classifiers that have it."""
    return jax.jit(partial(_class_log_probabilities, config))


def _class_log_probabilities(
    config: BertConfig, params: Params, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array
) -> jax.Array:
    """Log-probabilities of the classes at every token, [B, T, C] fp32; a text has those of its first token."""
    model = bind(config, params)
    hidden_BTD, _ = model.hidden(tokens, positions, segment_ids, dtype=jnp.float32)
    return jax.nn.log_softmax(model.class_logits(hidden_BTD))


def open_classifier(folder: Path, task: Task) -> LabelClassifier:
    """Read a classifier of a data set from its Hugging Face folder.

    Raises:
        UserError: not an encoder with a classifier, or its classes are not the labels of the data set.
    """
    model, params = load_model(folder)
    config = encoder(model, folder)
    if not config.num_labels:
        raise UserError(f"{folder}: an encoder without classes; tune it with `mentallama train` first")
    classes, tokenizer = read_classes(folder, task, config.num_labels), EncoderTokenizer(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{folder}: its tokenizer has {tokenizer.vocab_size} tokens and it embeds {config.vocab_size}; take files "
            "that belong together"
        )
    return LabelClassifier(task, classes, config, params, tokenizer, source_fingerprint(str(folder)))


def read_classes(folder: Path, task: Task, count: int) -> Classes:
    """What the `count` classes of a folder mean: by its `classifier.json`, its class names, or as published ones do.

    That nothing in the folder names them, and in which order they are taken, is said on standard error.

    Raises:
        UserError: they are not the labels of the data set, each once; or nothing says which they are.
    """
    card = folder / CARD
    if card.is_file():
        values = read_object(card)
        if "data_sets" in values:
            return _of_several(card, values, task, count)
        if values.get("dataset", task.name) != task.name:
            raise UserError(f"{card}: is of {shown(values['dataset'])}, not of {task.name}; name the folder after it")
        named = values.get("labels")
        labels = _labels(named if isinstance(named, list) else [], task, count, f"{card}: labels")
        return Classes(labels, CARD, *_reading(card, values), values.get("trained"))
    names = read_object(folder / "config.json").get("id2label")
    ordered = [names.get(str(place), f"LABEL_{place}") for place in range(count)] if isinstance(names, dict) else []
    if all(name == f"LABEL_{place}" for place, name in enumerate(ordered)):
        if count != len(task.labels):
            raise UserError(f"{folder}: has {count} classes, and {task.name} {len(task.labels)} labels")
        return _as_published(folder, task)
    return Classes(_labels(ordered, task, count, f"{folder / 'config.json'}: id2label"), "id2label of config.json")


def _as_published(folder: Path, task: Task) -> Classes:
    """What classes without names mean in the published classifiers of a data set."""
    labels = PUBLISHED_CLASSES.get(task.name, ())
    if sorted(labels) != sorted(task.labels):
        raise UserError(
            f"{folder}: its classes have no names, and in which order classifiers of {task.name} number its labels is "
            f"not known ({', '.join(task.labels)}); write the labels in the order of the classes into {CARD}"
        )
    notice(
        f"{folder}: its classes have no names; they are taken for {', '.join(labels)}, as the published classifiers of "
        f"{task.name} number them; where they are others, write labels into its {CARD}"
    )
    return Classes(labels, "the order of the published classifiers, as its classes have no names")


def _of_several(card: Path, values: Mapping[str, Any], task: Task, count: int) -> Classes:
    """What the classes of a classifier of several data sets mean for one of them."""
    parts = values["data_sets"]
    if not isinstance(parts, dict) or not all(isinstance(labels, list) for labels in parts.values()):
        raise UserError(f"{card}: data_sets does not hold the labels of each data set")
    sizes = {name: len(labels) for name, labels in parts.items()}
    if sum(sizes.values()) != count:
        raise UserError(f"{card}: data_sets holds {sum(sizes.values())} labels for {count} classes")
    if task.name not in parts:
        raise UserError(f"{card}: is a classifier of {', '.join(map(shown, list(parts)[:12]))}, not of {task.name}")
    labels = _labels(parts[task.name], task, sizes[task.name], f"{card}: data_sets: {task.name}")
    first = sum(list(sizes.values())[: list(sizes).index(task.name)])
    return Classes(labels, CARD, *_reading(card, values), values.get("trained"), first, asks=True)


def _reading(card: Path, values: Mapping[str, Any]) -> tuple[ClassInput | None, int | None]:
    """What a classifier learnt to read, and of how many tokens."""
    kind, length = values.get("input"), values.get("max_length")
    if kind not in (None, *_INPUTS):
        raise UserError(f"{card}: input is {shown(kind)}; there are: {', '.join(_INPUTS)}")
    if length is not None and (type(length) is not int or length < 1):
        raise UserError(f"{card}: max_length is {shown(length)}; expected a number of tokens")
    return kind, length


def _labels(names: Sequence[Any], task: Task, count: int, place: str) -> tuple[str, ...]:
    """The labels that names stand for, in any case and by any alias."""
    known = {label.casefold(): label for label in task.labels}
    for label, aliases in task.label_aliases.items():
        known |= {alias.casefold(): label for alias in aliases}
    found = [known.get(name.casefold()) if isinstance(name, str) else None for name in names]
    labels = tuple(label for label in found if label is not None)
    if len(found) != count or len(labels) != count or sorted(labels) != sorted(task.labels):
        given = ", ".join(shown(name, 30) for name in list(names)[:12])
        raise UserError(
            f"{place}: {given or 'none'} are not the {len(task.labels)} labels of {task.name}, each once, for {count} "
            f"classes ({', '.join(task.labels)}); write the labels in the order of the classes into {CARD}"
        )
    return labels


def card(learnt: LearntClasses, what: ClassInput, max_length: int, trained: dict[str, Any]) -> dict[str, Any]:
    """The content of a `classifier.json`; `trained` says what it was trained from."""
    reading = {"input": what, "max_length": max_length, "trained": trained}
    if len(learnt.tasks) > 1:
        return {"data_sets": {task.name: list(task.labels) for task in learnt.tasks}, **reading}
    (task,) = learnt.tasks
    return {"dataset": task.name, "labels": list(task.labels), **reading}


def open_classifiers(folder: Path, tasks: Sequence[Task]) -> dict[str, LabelClassifier]:
    """Read the classifiers of several data sets from a directory with one folder a data set.

    A folder is named after its data set, in any case and by any alias. It is a Hugging Face folder, or the directory of
    a run that holds one under `classifier`. The directory may also be such a folder or run itself: that of one
    classifier of all the data sets.

    Raises:
        UserError: a data set has no folder or two, or one cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of classifiers")
    for one in (folder / "classifier", folder):
        if (one / CARD).is_file() and tasks:
            opened = open_classifier(one, tasks[0])
            classes = {task.name: read_classes(one, task, opened.config.num_labels) for task in tasks}
            return {task.name: replace(opened, task=task, classes=classes[task.name]) for task in tasks}
    of_task: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        name = ""
        with suppress(UserError):  # a folder that is no data set's
            name = task_named(path.name).name
        if name and of_task.setdefault(name, path) != path:
            raise UserError(f"{path}: {of_task[name].name} is the classifier of {name} already; keep one of the two")
    found = {}
    for task in tasks:
        if task.name not in of_task:
            there = ", ".join(sorted(of_task)) or "none"
            raise UserError(
                f"{folder}: holds no classifier of {task.name}; name its folder {task.name} (found: {there})"
            )
        inner = of_task[task.name] / "classifier"
        found[task.name] = open_classifier(inner if inner.is_dir() else of_task[task.name], task)
    return found


def read_outputs(classifiers: Mapping[str, LabelClassifier], rows: Sequence[Prediction]) -> list[str | None]:
    """The label that a classifier reads from each output; None where the output has nothing that it reads.

    It reads what it learnt to read: the explanation alone, or the whole response, which is also what one reads whose
    folder does not say.

    Raises:
        UserError: a classifier reads posts, which outputs do not hold.
    """
    for classifier in classifiers.values():
        if classifier.classes.input == "post":
            raise UserError(
                f"the classifier of {classifier.task.name} learnt to read posts, which outputs do not hold; tune one "
                "with objective.input=response or explanation"
            )
    inputs: dict[str, ClassInput] = {
        name: classifier.classes.input or "response" for name, classifier in classifiers.items()
    }
    asks = {name: classifier.classes.asks for name, classifier in classifiers.items()}
    texts = [output_text(row, inputs[row.dataset], ask=asks[row.dataset]) for row in rows]
    return _read(classifiers, rows, texts)


def read_explanations(
    classifiers: Mapping[str, LabelClassifier], rows: Sequence[Prediction]
) -> tuple[list[str | None], list[str | None]]:
    """The labels that classifiers read from the explanations of outputs, and from the gold ones; None without one.

    Raises:
        UserError: a classifier learnt to read something else than explanations without label sentences.
    """
    for classifier in classifiers.values():
        if classifier.classes.input not in (None, "explanation"):
            raise UserError(
                f"the classifier of {classifier.task.name} learnt to read the {classifier.classes.input}; consistency "
                "takes one that reads explanations alone: tune it with objective.input=explanation"
            )
    asks = {name: classifier.classes.asks for name, classifier in classifiers.items()}

    def gold_text(row: Prediction) -> str:
        text = without_label_sentences(row.explanation, row.task) if row.label else ""
        return with_question(text, row.task, row.aspect, ask=asks[row.dataset])

    gold = [gold_text(row) for row in rows]
    outputs = [output_text(row, "explanation", ask=asks[row.dataset]) for row in rows]
    return _read(classifiers, rows, outputs), _read(classifiers, rows, gold)


def _read(
    classifiers: Mapping[str, LabelClassifier], rows: Sequence[Prediction], texts: Sequence[str]
) -> list[str | None]:
    found: list[str | None] = [None] * len(rows)
    for name, classifier in classifiers.items():
        places = [place for place, row in enumerate(rows) if row.dataset == name and texts[place]]
        for place, label in zip(places, classifier.read([texts[place] for place in places]), strict=True):
            found[place] = label
    return found
