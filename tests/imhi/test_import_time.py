"""Reading data must stay light: workers and the command line import it."""

import json
import subprocess
import sys

HEAVY = ("jax", "numpy", "pyarrow", "datasets", "pandas", "transformers", "torch", "huggingface_hub", "matplotlib")


def test_the_data_rooms_import_nothing_heavy() -> None:
    code = (
        "import json, sys\n"
        "from mentallama_jax.imhi import mixture, prompts\n"
        "from mentallama_jax.imhi.data_files import annotations, build, posts, readers, writers\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
