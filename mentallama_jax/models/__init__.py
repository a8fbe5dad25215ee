"""The LLaMA family in Flax NNX: maths whose parameters are one nested dict of arrays."""
