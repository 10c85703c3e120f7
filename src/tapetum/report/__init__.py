"""Pages and pictures that show runs, features and results."""
