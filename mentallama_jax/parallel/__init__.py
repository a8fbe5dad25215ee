"""Meshes of devices, and the one table that says which array dimension goes along which of their axes."""
