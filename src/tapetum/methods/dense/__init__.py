"""Every position of a feature map learns, not only the image as a whole."""
