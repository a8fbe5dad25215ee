"""What a training job needs, does and costs on chips that are not here: compiled ahead of time, read, priced."""
