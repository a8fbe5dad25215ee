"""Rewards that all processes agree on: the first one judges, and tells the others."""

from collections.abc import Sequence
from contextlib import nullcontext

import jax
import numpy as np
from numpy.typing import NDArray

from mentallama_jax.config import MeshSection
from mentallama_jax.evaluation.rewards import Rewards
from mentallama_jax.imhi.records import Record
from mentallama_jax.parallel.mesh import make_mesh, use_mesh
from mentallama_jax.parallel.processes import first_tells, writes_files
from mentallama_jax.parallel.rules import current_mesh


def agreed_rewards(rewards: Rewards, records: Sequence[Record], texts: Sequence[str]) -> NDArray[np.float64]:
    """The rewards [answers, rewards] of `Rewards.of`, the same on every process.

    A reward may be a function of the user's own that gives another number on each host, or a classifier, which lies on
    one device: so one process judges, on one device of its own, whatever mesh surrounds it.
    """
    values = np.zeros((len(texts), len(rewards.functions)))
    if writes_files():
        alone = make_mesh(MeshSection(fsdp=1), jax.local_devices()[:1])
        with use_mesh(alone) if current_mesh() is not None else nullcontext():
            values = rewards.of(records, texts)
    return np.frombuffer(first_tells(values.tobytes())).reshape(values.shape)
