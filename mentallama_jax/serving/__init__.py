"""The HTTP server: an API as OpenAI's, the analysis of posts, and what guards them."""
