"""Networks that turn images into features, with their preprocessing."""

from tapetum.encoders.build import build, load
from tapetum.encoders.encoder import Encoder, Features

__all__ = ["Encoder", "Features", "build", "load"]
