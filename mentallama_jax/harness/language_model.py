"""Our models as a model of lm-evaluation-harness. The one file that needs lm_eval when it is imported.

A context is prompted in the style of the model, as a user's message where that is a chat; so `--apply_chat_template`
is neither needed nor taken. In plain style it is the text behind BOS.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from mentallama_jax.errors import UserError
from mentallama_jax.generation.engine import Settings
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.generation.stop_strings import without_end
from mentallama_jax.imhi.prompts import answer_blank, encode_answer, encode_question, stop_ids
from mentallama_jax.jobs.answer import open_answerer

_BATCH_SIZE = 16
_NEW_TOKENS = 256
_CANDIDATE_SLOTS = 16
_log = logging.getLogger(__name__)


class MentallamaLM(TemplateLM):
    """What `--model mentallama --model_args model=RUN` stands for."""

    def __init__(
        self,
        model: str | None = None,
        pretrained: str | None = None,
        revision: str | None = None,
        checkpoint: Any = None,
        style: Any = None,
        max_length: int | None = None,
        dtype: str | None = None,
        batch_size: int | str | None = None,
        **others: Any,
    ) -> None:
        """Read a model.

        Args:
            model: whatever `mentallama generate` takes; `pretrained` means the same.
            pretrained: see `model`.
            revision: see `jobs.answer.open_answerer`, as for `checkpoint`, `style`, `max_length` and `dtype`.
            batch_size: rows computed together; `auto` is 16.
            others: what the harness passes to every model, such as a device; jax chooses the device.

        Raises:
            UserError: no model is named, or it cannot be opened.
        """
        super().__init__()
        source = model or pretrained
        if not source:
            raise UserError("--model mentallama needs --model_args model=RUN")
        if unknown := set(others) - {"device", "max_batch_size", "trust_remote_code"}:
            raise UserError(f"--model mentallama knows no argument {', '.join(sorted(unknown))}")
        self._answerer = open_answerer(
            str(source), revision=revision, checkpoint=checkpoint, style=style, max_length=max_length, dtype=dtype
        )
        self._tokenizer = self._answerer.tokenizer
        size = str(batch_size or "auto")
        self._batch_size = int(size) if size.isdecimal() else _BATCH_SIZE

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._tokenizer.eos_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without a context."""
        return self.eot_token_id if self._tokenizer.bos_id is None else self._tokenizer.bos_id

    @property
    def tokenizer_name(self) -> str:
        """Names the caches of requests."""
        return self._answerer.tokenizer.fingerprint

    @property
    def max_length(self) -> int:
        """Tokens of context and answer together."""
        return self._answerer.max_length

    def get_model_info(self) -> dict[str, Any]:
        """What goes into the results of the harness."""
        found = self._answerer
        return {**found.opened.identity, "weights": found.weights, "dtype": found.dtype, "style": found.style}

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Refuse: contexts are prompted in the model's own style already.

        Raises:
            UserError: always.
        """
        raise UserError(f"the model is prompted in its style, {self._answerer.style}; leave out --apply_chat_template")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Tokens of a text that stands alone, without BOS; text never becomes a special token."""
        return self._tokenizer.encode(string)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        style = self._answerer.style
        if style in ("plain", "completion"):
            blanks = len(context) - len(context.rstrip(" "))
            context, continuation = context[: len(context) - blanks], context[len(context) - blanks :] + continuation
        else:
            continuation = answer_blank(style, self._tokenizer) + continuation.lstrip(" ")
        return (
            encode_question(context, style, self._tokenizer),
            encode_answer(continuation, style, self._tokenizer),
        )

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """The log-probability of each continuation, and whether greedy decoding gives it."""
        contexts: dict[tuple[int, ...], list[int]] = {}
        kept = [self._cut(context, len(answer)) for _, context, answer in requests]
        for place, context in enumerate(kept):
            contexts.setdefault(tuple(context), []).append(place)
        answers = [answer for _, _, answer in requests]
        found: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        with self._answerer.on_mesh():
            for shape, group in _groups(contexts, answers).items():
                for asked, sums in self._scores(group, contexts, answers, shape):
                    for place, (total, greedy) in zip(contexts[asked], sums, strict=True):
                        found[place] = (total, greedy)
        for (texts, _, _), result in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", texts, result)
        return found

    def _scores(
        self,
        group: Sequence[tuple[int, ...]],
        contexts: dict[tuple[int, ...], list[int]],
        answers: Sequence[list[int]],
        shape: tuple[int, int],
    ) -> Iterator[tuple[tuple[int, ...], list[tuple[float, bool]]]]:
        engine = self._answerer.engine
        candidates = [[answers[place] for place in contexts[context]] for context in group]
        settings = Settings(max_new_tokens=shape[1], batch_size=self._batch_size)
        ends = stop_ids(self._answerer.style, self._tokenizer)
        greedy = {
            place: answer.tokens
            for batch in engine.answers(group, [""] * len(group), settings, ends)
            for place, answer in batch.items()
        }
        for batch in engine.scores(group, candidates, settings, shape):
            for place, sums in batch.items():
                chosen = [greedy[place][: len(candidate)] == tuple(candidate) for candidate in candidates[place]]
                yield group[place], list(zip(sums.tolist(), chosen, strict=True))

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """The log-probability of each text, in windows of the model's length."""
        found = []
        for request in requests:
            tokens = self.tok_encode(request.args[0])
            windows = map(
                make_disjoint_window,
                get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length - 1, context_len=1),
            )
            parts = self._loglikelihood_tokens([(("", ""), context, answer) for context, answer in windows])
            found.append(sum(total for total, _ in parts))
        return found

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """An answer to each context, cut before the first of its `until` texts."""
        found = [""] * len(requests)
        groups: dict[Settings, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(self._settings(request.args[1]), []).append(place)
        style = self._answerer.style
        ends = stop_ids(style, self._tokenizer)
        with self._answerer.on_mesh():
            for settings, places in groups.items():
                texts = [requests[place].args[0] for place in places]
                prompts = [
                    self._cut(encode_question(text, style, self._tokenizer), settings.max_new_tokens) for text in texts
                ]
                names = [str(place) for place in places]
                for batch in self._answerer.engine.answers(prompts, names, settings, ends):
                    for row, answer in batch.items():
                        arguments = requests[places[row]].args
                        text = _until(self._tokenizer.decode(without_end(answer)), arguments[1].get("until") or ())
                        found[places[row]] = text
                        self.cache_hook.add_partial("generate_until", arguments, text)
        return found

    def _settings(self, arguments: dict[str, Any]) -> Settings:
        sampled = bool(arguments.get("do_sample", float(arguments.get("temperature") or 0) > 0))
        sampling = Sampling()
        if sampled:
            given = {key: arguments[key] for key in ("top_k", "top_p") if arguments.get(key) is not None}
            sampling = Sampling(temperature=float(arguments.get("temperature") or 1.0), **given)
        most = int(arguments.get("max_gen_toks") or arguments.get("max_new_tokens") or _NEW_TOKENS)
        return Settings(min(most, self.max_length - 1), sampling, batch_size=self._batch_size)

    def _cut(self, context: list[int], room: int) -> list[int]:
        """The end of a context that is too long, as the harness cuts them."""
        if room >= self.max_length:
            raise UserError(f"an answer of {room} tokens leaves no room for a context in {self.max_length}")
        if len(context) > self.max_length - room:
            _log.warning(
                "a context of %d tokens lost its first %d", len(context), len(context) - self.max_length + room
            )
        return context[-(self.max_length - room) :]


def _groups(
    contexts: dict[tuple[int, ...], list[int]], answers: Sequence[list[int]]
) -> dict[tuple[int, int], list[tuple[int, ...]]]:
    """Contexts by the room that their candidates are compiled for: how many, and how long."""
    found: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for context, places in contexts.items():
        count = 1 << (len(places) - 1).bit_length()
        longest = max(1, *(len(answers[place]) for place in places))
        found.setdefault((count, -(-longest // _CANDIDATE_SLOTS) * _CANDIDATE_SLOTS), []).append(context)
    return found


def _until(text: str, ends: str | Sequence[str]) -> str:
    for end in [ends] if isinstance(ends, str) else ends:
        text = text.split(end)[0] if end else text
    return text
