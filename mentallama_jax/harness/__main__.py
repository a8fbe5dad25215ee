"""`python -m mentallama_jax.harness`: the command line of lm_eval, which knows the model `mentallama` besides."""

import sys

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import one_line


def main() -> int:
    """Run `lm_eval` with the arguments of this program."""
    try:
        from lm_eval.__main__ import cli_evaluate
    except ImportError:
        print(
            "error: lm_eval is missing; install the extra harness: pip install mentallama-jax[harness]", file=sys.stderr
        )
        return 2
    from mentallama_jax.harness.registration import register

    register()
    try:
        cli_evaluate()
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
