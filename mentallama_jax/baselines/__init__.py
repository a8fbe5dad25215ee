"""Systems to compare with that are not tuned here: models behind OpenAI-compatible endpoints."""
