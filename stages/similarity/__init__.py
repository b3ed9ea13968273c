"""Similarity to anchors: the memory bank and the loss that CompRess and its relatives share."""
