"""Says in one line on stderr what a reader found odd and passed over."""

import sys

_said: set[str] = set()


def notice(line: str) -> None:
    """Print `line` once in the life of this process; of several processes on a cluster, the first one alone.

    Config, weights and tokenizer of one model are opened one after the other, and each of them may find the same.
    """
    if line in _said or _is_another_process():
        return
    _said.add(line)
    print(f"note: {line}", file=sys.stderr)


def _is_another_process() -> bool:
    # Reading a tokenizer must stay light, so jax is asked only where it is loaded already.
    jax = sys.modules.get("jax")
    return jax is not None and bool(jax.distributed.is_initialized()) and jax.process_index() != 0
