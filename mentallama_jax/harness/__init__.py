"""The benchmark and the models under lm-evaluation-harness (the extra `harness`): tasks in its YAML, and a model."""
