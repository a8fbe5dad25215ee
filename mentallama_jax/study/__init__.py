"""A study: rows of systems become a graph of steps, which is run, resumed and reported."""
