"""What the tests of the store share."""

from small_images import encoder, images, write_images  # noqa: F401 - fixtures
