"""Where images come from: sources of every kind, decoding, labels, fingerprints, training pixels."""

from tapetum.data.decode import Damaged, decode
from tapetum.data.open import open_data
from tapetum.data.source import Source

__all__ = ["Damaged", "Source", "decode", "open_data"]
