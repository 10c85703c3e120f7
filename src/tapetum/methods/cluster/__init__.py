"""Images are put into groups that the network itself makes, and it learns to name an image's group."""
