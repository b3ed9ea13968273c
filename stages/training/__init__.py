"""What all training shares: the loop, the batches, the recipe and the checkpoints."""
