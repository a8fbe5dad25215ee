"""Makes the model known to lm-evaluation-harness by the name `mentallama`, without loading anything of it yet."""

from importlib import import_module

MODEL_NAME = "mentallama"


def register() -> None:
    """Let `--model mentallama` mean our model; calling it again changes nothing."""
    import_module("lm_eval.models")  # fills the registry, which the harness does by itself only where it is empty
    from lm_eval.api.registry import model_registry

    if MODEL_NAME not in model_registry:
        model_registry.register(MODEL_NAME, target="mentallama_jax.harness.language_model:MentallamaLM")
