"""Short files that tests run."""
