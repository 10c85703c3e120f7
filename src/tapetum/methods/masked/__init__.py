"""A part of the image is hidden and the rest says what stood there."""
