"""Labels that the image makes by itself: how it was turned, cut up or drained of colour."""
