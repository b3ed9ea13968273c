"""Linear probes: the published protocols, their classifiers, and what these learn from."""
