"""`python -m mentallama_jax` is the `mentallama` command."""

import sys

from mentallama_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
