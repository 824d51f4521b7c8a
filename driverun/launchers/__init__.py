"""Ways to start a worker where it happens to be."""
