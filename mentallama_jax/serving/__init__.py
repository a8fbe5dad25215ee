"""The HTTP server: a page and an API in front of one model."""
