"""Training: one loop for all methods, its settings, checkpoints, and the run that binds them."""
