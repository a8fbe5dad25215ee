"""What requests cost: prices, a bound before they are sent, and a limit that is never passed.

A bound of the tokens of a request is known before it is sent: see `token_bound`. What is reserved for an attempt is
the bound of its question and the longest answer. When the answer is there, what the endpoint counted replaces it.
An attempt that may have been answered although no answer came (a connection was cut, time ran out, the answer could
not be read, or this program was killed) keeps its whole reservation: the limit holds even if it has to be paid.
An attempt that was refused with an HTTP status costs nothing, as providers bill answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import reading, shown
from mentallama_jax.strict_yaml import parse_yaml

Message = Mapping[str, str]
"""`role` and `content` of a message of a conversation."""

AROUND_A_MESSAGE = 8
"""Tokens that a chat template may put around a message, and once more around all."""
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for a million tokens of questions (`prompt`) and of answers (`answer`)."""

    prompt: float
    answer: float

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float:
        """Dollars of a request."""
        return (self.prompt * prompt_tokens + self.answer * answer_tokens) / _MILLION


def find_prices(model: str, prompt: float | None, answer: float | None, table: Path | None) -> Prices | None:
    """The prices that the user gives, or those of a table; None where neither is there.

    Args:
        model: as it is asked for.
        prompt: `--price-in`.
        answer: `--price-out`.
        table: `--prices`: a YAML file, model -> `in` and `out`, in dollars for a million tokens.

    Raises:
        UserError: one price without the other, a negative price, or a table that does not read so.
    """
    if (prompt is None) != (answer is None):
        raise UserError("--price-in and --price-out go together")
    if prompt is not None and answer is not None:
        return _checked(prompt, answer, "--price-in, --price-out")
    if table is None:
        return None
    regular_file(table)
    with reading(table, "YAML"):
        rows = parse_yaml(table.read_bytes(), table)
    if not isinstance(rows, dict):
        raise UserError(f"{table}: expected models with their prices, such as `gpt-4o-mini: {{in: 0.15, out: 0.6}}`")
    if model not in rows:
        return None
    row = rows[model]
    if not isinstance(row, dict) or row.keys() != {"in", "out"}:
        raise UserError(f"{table}: {shown(model)} needs `in` and `out`, dollars for a million tokens")
    return _checked(row["in"], row["out"], f"{table}: {shown(model)}")


def _checked(prompt: object, answer: object, place: str) -> Prices:
    for price in (prompt, answer):
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < float("inf"):
            raise UserError(f"{place}: a price is a number of dollars from 0")
    return Prices(float(prompt), float(answer))  # type: ignore[arg-type]


def token_bound(messages: Sequence[Message], count: Callable[[str], int] | None = None) -> int:
    """The most tokens that a conversation has.

    Args:
        messages: of the conversation.
        count: the tokens of a text by the model's own tokenizer. Without one each UTF-8 byte counts as a token:
            byte-level tokenizers never make more. English text has about four bytes a token.
    """
    size = count or (lambda text: len(text.encode("utf-8", "surrogatepass")))
    return AROUND_A_MESSAGE * (len(messages) + 1) + sum(size(message["content"]) for message in messages)


@dataclass(slots=True)
class Spending:
    """What was spent, what may have been, and what is reserved for attempts that are under way; in dollars.

    Attributes:
        limit: never passed; None for no limit.
        paid: for answers that arrived.
        perhaps: for attempts that may have been answered, although no answer arrived.
        reserved: for attempts under way.
        under_way: how many there are.
    """

    limit: float | None = None
    paid: float = 0.0
    perhaps: float = 0.0
    reserved: float = 0.0
    under_way: int = field(default=0)

    @property
    def most(self) -> float:
        """The most that it can have cost when all that is under way is answered."""
        return self.paid + self.perhaps + self.reserved

    def reserve(self, bound: float) -> bool:
        """Reserve dollars for an attempt; False where the limit would be passed."""
        if self.limit is not None and self.most + bound > self.limit:
            return False
        self.reserved += bound
        self.under_way += 1
        return True

    def settle(self, bound: float, *, paid: float = 0.0, perhaps: float = 0.0) -> None:
        """An attempt is over: give its reservation back, and count what it cost or may have cost."""
        self.under_way -= 1
        self.reserved = self.reserved - bound if self.under_way else 0.0
        self.paid += paid
        self.perhaps += perhaps
