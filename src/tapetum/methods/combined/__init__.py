"""Methods made of the parts of others."""
