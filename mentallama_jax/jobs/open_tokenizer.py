"""Opens a tokenizer, whatever its name stands for."""

from importlib import resources
from pathlib import Path

from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.jobs.open_model import is_run, open_model


def open_tokenizer(source: str, *, rows: int | None = None) -> Tokenizer:
    """The tokenizer that a name stands for.

    Args:
        source: `sample`, a run directory, a Hugging Face folder, a `.gguf` file or a hub id.
        rows: of the embedding that it goes with.

    Raises:
        UserError: nothing there, or it does not fit.
    """
    if source == "sample":
        return load_tokenizer(Path(str(resources.files("mentallama_jax.imhi"))) / "sample" / "tokenizer")
    if is_run(source):
        return open_model(source).load_tokenizer()
    return load_tokenizer(source, rows=rows)
