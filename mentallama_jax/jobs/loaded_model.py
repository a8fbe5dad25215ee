"""A model as a notebook or a program uses it: analyses of posts, answers to conversations, scores of labels.

Nothing heavy is imported before a model is opened.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.task_files.task import Task

if TYPE_CHECKING:
    from mentallama_jax.evaluation.trust.kept_temperatures import KeptTemperatures
    from mentallama_jax.jobs.analysis_result import Analysis
    from mentallama_jax.jobs.answer import Answerer
    from mentallama_jax.jobs.evaluated import Evaluation


class LoadedModel:
    """A model with its weights on the devices; `load_model` makes one.

    Several threads must not call it at once.

    Attributes:
        name: where it comes from.
        style: how questions become prompts.
        max_length: tokens of prompt and answer together.
        tasks: tasks of one's own that its run or export keeps.
    """

    def __init__(
        self, answerer: "Answerer", tasks: Sequence[Task] = (), temperatures: "KeptTemperatures | None" = None
    ) -> None:
        self._answerer, self._temperatures = answerer, temperatures
        self.name = answerer.opened.name
        self.style: str = answerer.style
        self.max_length = answerer.max_length
        self.tasks = tuple(tasks)

    def __repr__(self) -> str:
        from mentallama_jax.models.module import count_params

        parameters = count_params(self._answerer.opened.config)
        calibrated = ", calibrated" if self._temperatures else ""
        return (
            f"<LoadedModel {self.name}: {parameters:,} parameters, {self._answerer.dtype}, style {self.style}, "
            f"{self.max_length:,} tokens{calibrated}>"
        )

    @overload
    def analyse(  # type: ignore[overload-overlap]
        self,
        post: str,
        task: str | Path | Task,
        *,
        aspect: str | None = None,
        abstain_below: float = 0.0,
        max_new_tokens: int = 256,
        batch_size: int = 16,
    ) -> "Analysis": ...

    @overload
    def analyse(
        self,
        post: Sequence[str],
        task: str | Path | Task,
        *,
        aspect: str | None = None,
        abstain_below: float = 0.0,
        max_new_tokens: int = 256,
        batch_size: int = 16,
    ) -> "list[Analysis]": ...

    def analyse(
        self,
        post: str | Sequence[str],
        task: str | Path | Task,
        *,
        aspect: str | None = None,
        abstain_below: float = 0.0,
        max_new_tokens: int = 256,
        batch_size: int = 16,
    ) -> "Analysis | list[Analysis]":
        """Analyse a post, or several together: label, probability of each label, explanation, quotes, risk.

        Args:
            post: the text, or several.
            task: name of a data set, a task file of your own, or a `Task`.
            aspect: what is asked about, of a task with aspects.
            abstain_below: an analysis whose label is less probable than this abstains.
            max_new_tokens: of an explanation at most.
            batch_size: posts at once; changes speed and memory, not answers.

        Returns:
            One `Analysis` for a text, a list of them for several texts.

        Raises:
            UserError: no such task or aspect, or a post that is empty or too long. No message quotes a post.
        """
        from mentallama_jax.jobs.analyse import AnalysisSettings, analyse, analyse_posts
        from mentallama_jax.terminal import CountingBar

        settings = AnalysisSettings(max_new_tokens, abstain_below, self._temperatures, batch_size=batch_size)
        with self._knowing(task) as name:
            if isinstance(post, str):
                return analyse(self._answerer, post, name, aspect=aspect, settings=settings)
            posts = list(post) if isinstance(post, Iterable) else [post]
            if not all(isinstance(each, str) for each in posts):
                raise UserError("post: give a text, or a list of texts")
            with CountingBar(len(posts)) as bar:
                return analyse_posts(self._answerer, posts, name, aspect=aspect, settings=settings, on_done=bar.add)

    @overload
    def generate(  # type: ignore[overload-overlap]
        self,
        messages: str | Sequence[Mapping[str, str]],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        batch_size: int = 16,
    ) -> str: ...

    @overload
    def generate(
        self,
        messages: Sequence[str | Sequence[Mapping[str, str]]],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        batch_size: int = 16,
    ) -> list[str]: ...

    def generate(
        self,
        messages: str | Sequence[str | Mapping[str, str] | Sequence[Mapping[str, str]]],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        batch_size: int = 16,
    ) -> str | list[str]:
        """Answer a conversation, or several together, in the prompt style of the model.

        Args:
            messages: a text, a list of messages with `role` and `content`, or a list of either.
            max_new_tokens: of an answer at most; a longer one is cut there.
            temperature: 0 takes the likeliest token each time.
            top_p: with a temperature: only the likeliest tokens that hold this probability.
            seed: of sampling; each conversation draws by the seed and its place alone.
            stop: a text that ends an answer, or several; it is cut before them.
            batch_size: conversations at once; changes speed and memory, not answers.

        Returns:
            One text for a conversation, a list of them for several.

        Raises:
            UserError: no conversation, one that is too long for the model, or settings that do not go together.
        """
        from mentallama_jax.generation.engine import Settings
        from mentallama_jax.generation.sampling import Sampling
        from mentallama_jax.jobs.converse import converse
        from mentallama_jax.jobs.one_or_several import several
        from mentallama_jax.terminal import CountingBar

        alone = isinstance(messages, str) or (bool(messages) and all(isinstance(each, Mapping) for each in messages))
        asked: Sequence[Any] = [messages] if alone else list(messages)
        sampling = Sampling(temperature, top_p=top_p)
        settings = Settings(max_new_tokens, sampling, seed, batch_size, stop_strings=tuple(several(stop)))
        if alone:
            return converse(self._answerer, asked, settings)[0]
        with CountingBar(len(asked)) as bar:
            return converse(self._answerer, asked, settings, bar.add)

    @overload
    def score_labels(  # type: ignore[overload-overlap]
        self, post: str, task: str | Path | Task, *, aspect: str | None = None, batch_size: int = 16
    ) -> dict[str, float]: ...

    @overload
    def score_labels(
        self, post: Sequence[str], task: str | Path | Task, *, aspect: str | None = None, batch_size: int = 16
    ) -> list[dict[str, float]]: ...

    def score_labels(
        self,
        post: str | Sequence[str],
        task: str | Path | Task,
        *,
        aspect: str | None = None,
        batch_size: int = 16,
    ) -> dict[str, float] | list[dict[str, float]]:
        """The log-probability of each label sentence as the answer, in nats, without temperature.

        The arguments and errors are those of `analyse`. No explanation is written, so this takes one pass.
        """
        from mentallama_jax.jobs.analyse import label_scores
        from mentallama_jax.terminal import CountingBar

        with self._knowing(task) as name:
            if isinstance(post, str):
                return label_scores(self._answerer, [post], name, aspect, batch_size)[0]
            posts = list(post)
            with CountingBar(len(posts)) as bar:
                return label_scores(self._answerer, posts, name, aspect, batch_size, bar.add)

    @contextmanager
    def _knowing(self, task: str | Path | Task) -> Iterator[str]:
        """The name of a task, known inside the block."""
        from mentallama_jax.imhi.tasks import own_tasks

        with own_tasks(self.tasks), named_task(task) as name:
            yield name


@contextmanager
def named_task(task: str | Path | Task) -> Iterator[str]:
    """The name of a task that is given as such, as a file or as itself, known inside the block.

    Raises:
        UserError: no such task or file, or a `Task` that is none.
    """
    from mentallama_jax.imhi.task_files.task_reading import check
    from mentallama_jax.imhi.tasks import TASKS, own_tasks, read_task_file

    if isinstance(task, Task):
        if TASKS.get(task.name) != task:
            check(task, f"task {task.name}")
    elif isinstance(task, Path) or str(task).lower().endswith((".yaml", ".yml")):
        task = read_task_file(task)
    elif not isinstance(task, str):
        raise UserError(f"a task is a name, a file or a Task, not {type(task).__name__}")
    if isinstance(task, str):
        yield task
        return
    with own_tasks([task] if not task.is_shipped else []):
        yield task.name


def load_model(
    source: str | Path,
    *,
    adapter: str | Path | None = None,
    checkpoint: Any = None,
    revision: str | None = None,
    style: Any = None,
    max_length: int | None = None,
    dtype: str | None = None,
    calibration: "str | Path | Evaluation | None" = None,
) -> LoadedModel:
    """Open a model and read its weights onto the devices.

    Args:
        source: a run directory, a Hugging Face folder, a hub id, a `.gguf` file, or `package:NAME`.
        adapter: the folder of a PEFT adapter (LoRA, DoRA) to merge into the weights.
        checkpoint: of a run: "best" (the default), "last", or a number of updates.
        revision: of a hub id: branch, tag or commit.
        style: how questions become prompts: plain, completion, llama2-chat, chatml or chat; by default as the run was
            trained, for other models as their tokenizer suggests.
        max_length: tokens of prompt and answer together; by default as trained, else 2,048.
        dtype: of weights and activations; by default float32 on CPU, bfloat16 elsewhere.
        calibration: what `evaluate(..., calibrate_on=...)` found for this model, or the `scores.json` of it, whose
            temperatures make the probabilities of `analyse`.

    Raises:
        UserError: no such model, one that is no LLaMA, or a calibration that belongs to another one.
    """
    from mentallama_jax.evaluation.trust.kept_temperatures import read_temperatures, temperatures_in
    from mentallama_jax.imhi.task_files.kept_tasks import kept_tasks
    from mentallama_jax.jobs.analyse import Analyser, AnalysisSettings
    from mentallama_jax.jobs.answer import open_answerer
    from mentallama_jax.jobs.evaluated import Evaluation
    from mentallama_jax.jobs.open_sequence import open_sequence

    source = str(source)
    temperatures = None
    if isinstance(calibration, Evaluation):
        temperatures = temperatures_in(calibration.scores, "the calibration")
    elif calibration is not None:
        temperatures = read_temperatures(str(calibration))
    tasks = kept_tasks(source)
    if open_sequence(source, revision=revision, checkpoint=checkpoint) is not None:
        raise UserError(
            f"{source}: an encoder-decoder, which answers by `mentallama generate`; load_model takes LLaMAs"
        )
    answerer = open_answerer(
        source,
        revision=revision,
        checkpoint=checkpoint,
        adapter=adapter,
        style=style,
        max_length=max_length,
        dtype=dtype,
    )
    Analyser(answerer, AnalysisSettings(temperatures=temperatures))
    return LoadedModel(answerer, tasks, temperatures)
