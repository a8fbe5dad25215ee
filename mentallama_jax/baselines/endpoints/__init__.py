"""Models behind OpenAI-compatible endpoints: what is sent where, what it costs, and answers that are kept."""
