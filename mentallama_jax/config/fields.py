"""Kinds of values in configs: numbers in their ranges, places, and names from closed lists.

No value is turned into another kind: `true` is no number, and `"4"` neither.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from mentallama_jax.storage import expanded

FINITE = Field(strict=True, allow_inf_nan=False)
_LARGEST = 10**9
_LONGEST_ROW = 2**20

Flag = Annotated[bool, Field(strict=True)]
Fraction = Annotated[float, FINITE, Field(ge=0, le=1)]
Decay = Annotated[float, FINITE, Field(ge=0, lt=1)]
Count = Annotated[int, Field(strict=True, ge=0, le=_LARGEST)]
PositiveInt = Annotated[int, Field(strict=True, ge=1, le=_LARGEST)]
RowLength = Annotated[int, Field(strict=True, ge=1, le=_LONGEST_ROW)]
TargetLength = Annotated[int, Field(strict=True, ge=2, le=_LONGEST_ROW)]
MicroBatch = Annotated[int, Field(strict=True, ge=1, le=2**16)]
Seed = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Weight = Annotated[float, FINITE, Field(gt=0, le=1000)]
PositiveFloat = Annotated[float, FINITE, Field(gt=0, le=1e30)]
Place = Annotated[str, AfterValidator(expanded)]


def _listed(value: Any) -> Any:
    """One text as a list of one."""
    return (value,) if isinstance(value, str) else value


TextList = Annotated[tuple[str, ...], BeforeValidator(_listed)]
PlaceList = Annotated[tuple[Place, ...], BeforeValidator(_listed)]
"""Several of them, or one alone, which is a list of one."""
Style = Literal["plain", "completion", "llama2-chat", "chatml", "chat"]
Dtype = Literal["float32", "bfloat16"]
Remat = Literal[
    "none",
    "products",
    "attention+gate+up",
    "attention+qkv+middle",
    "attention+gate+middle",
    "attention+gate",
    "attention",
    "full",
    "auto",
]
TextDivision = Literal["whole", "blank-lines"]
SavedTensor = Literal["attention", "query", "key", "value", "middle", "gate", "up"]
PairLossName = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
RewardWeight = Annotated[float, FINITE, Field(ge=-1000, le=1000)]
Metric = Literal["validation_loss", "label_f1", "weighted_f1", "reward", "rewards/accuracies"]
HIGHER_IS_BETTER: Mapping[Metric, bool] = MappingProxyType(
    {"validation_loss": False, "label_f1": True, "weighted_f1": True, "reward": True, "rewards/accuracies": True}
)
"""In which direction each figure of an evaluation improves."""
