"""What every other folder may lean on: errors, files, the console, randomness, processes."""
