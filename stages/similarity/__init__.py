"""Similarity to anchors: the memory bank and the losses that CompRess and its relatives share."""
