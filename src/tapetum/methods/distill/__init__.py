"""A network learns from a slow copy of itself, with nothing that repels."""
