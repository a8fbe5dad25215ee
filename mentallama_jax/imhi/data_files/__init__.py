"""Records from files and into files: every released layout, tables of posts, hub data sets, the bundled sample."""
