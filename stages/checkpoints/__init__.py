"""Public checkpoints: which there are, how they come here whole and unchanged, and how their files are laid out."""
