"""Features are computed once: a store on the disk, keyed by what computed them and each image's content."""

from tapetum.features.extract import Extractor, Precision, subject
from tapetum.features.rows import Features, in_order
from tapetum.features.view import View

__all__ = ["Extractor", "Features", "Precision", "View", "in_order", "subject"]
