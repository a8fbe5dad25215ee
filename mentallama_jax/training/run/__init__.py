"""The directory of a run: what it was made of, its checkpoints and their manifests, its figures."""
