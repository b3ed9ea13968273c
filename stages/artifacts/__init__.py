"""The files that pass between stages: how each is written whole, read back and checked."""
