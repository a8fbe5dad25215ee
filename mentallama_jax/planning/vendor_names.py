"""The names under which vendors rent chips, and what they stand for: `v5litepod-64` is v5e-64.

Remembered from the vendors' own pages. A machine type with other cards of the same family (A100 with 40 GB) is refused.
"""

import re
from collections.abc import Mapping

from mentallama_jax.errors import UserError

_MACHINES: Mapping[str, str] = {
    # Google Cloud, GPUs
    "a2-ultragpu-1g": "a100-1",
    "a2-ultragpu-2g": "a100-2",
    "a2-ultragpu-4g": "a100-4",
    "a2-ultragpu-8g": "a100-8",
    "a3-highgpu-1g": "h100-1",
    "a3-highgpu-2g": "h100-2",
    "a3-highgpu-4g": "h100-4",
    "a3-highgpu-8g": "h100-8",
    "a3-edgegpu-8g": "h100-8",
    "a3-megagpu-8g": "h100-8",
    "a3-ultragpu-8g": "h200-8",
    # Google Kubernetes Engine: chips of one host; v4 and v5p are counted in cores
    "ct4p-hightpu-4t": "v4-8",
    "ct5lp-hightpu-1t": "v5e-1",
    "ct5lp-hightpu-4t": "v5e-4",
    "ct5lp-hightpu-8t": "v5e-8",
    "ct5p-hightpu-1t": "v5p-2",
    "ct5p-hightpu-2t": "v5p-4",
    "ct5p-hightpu-4t": "v5p-8",
    "ct6e-standard-1t": "v6e-1",
    "ct6e-standard-4t": "v6e-4",
    "ct6e-standard-8t": "v6e-8",
    # Amazon
    "p4de.24xlarge": "a100-8",
    "p5.4xlarge": "h100-1",
    "p5.48xlarge": "h100-8",
    "p5e.48xlarge": "h200-8",
    "p5en.48xlarge": "h200-8",
    # Azure
    "standard_nd96amsr_a100_v4": "a100-8",
    "standard_nd96isr_h100_v5": "h100-8",
    "standard_nd96isr_h200_v5": "h200-8",
}
_OTHER_CARDS = ("a2-highgpu-", "a2-megagpu-", "p4d.", "standard_nd96asr_")
FAMILIES: Mapping[str, str] = {"v5litepod": "v5e", "v5lite": "v5e", "trillium": "v6e"}
_GPUS = "a100|h100|h200"


def plain_name(name: str) -> str:
    """The name of the same chips as `topologies.parse_topology` reads it; one that no vendor uses stays as it is.

    Raises:
        UserError: a machine whose cards are not among those that are planned for.
    """
    lower = name.strip().lower()
    if lower in _MACHINES:
        return _MACHINES[lower]
    if lower.startswith(_OTHER_CARDS):
        raise UserError(f"--topology {lower[:40]}: its A100 have 40 GB, and only those with 80 GB are planned for")
    words = re.sub(r"^(nvidia|tpu)[-_ ]", "", lower)
    if found := re.fullmatch(rf"({_GPUS})(?:[-_ ]?sxm\d?)?(?:[-_ ]?(?:80|141) ?gb)?(?:[-_ ]?[x:*])(\d+)", words):
        return f"{found[1]}-{found[2]}"
    if found := re.fullmatch(rf"(\d+)[x*]({_GPUS})", words):
        return f"{found[2]}-{found[1]}"
    if found := re.fullmatch(r"(\w+)([-:].*)", words):
        return FAMILIES.get(found[1], found[1]) + found[2]
    return words
