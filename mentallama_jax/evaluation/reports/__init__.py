"""The page of an evaluation: what JSON files of a folder say, as HTML, Markdown and LaTeX. No script, no network."""
