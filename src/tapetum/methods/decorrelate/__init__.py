"""Views of an image agree, and statistics of the batch keep the features spread out and apart."""
