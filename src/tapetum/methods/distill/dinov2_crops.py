"""DINOv2 with crops alone: of enough images, colours and flips are not needed. arXiv:2406.09294

The paper's crops without resizing, all at one magnification, are settings of these views, for instance
`--views.crop.ratio 1,1 --views.large.crop.scale 0.76,0.76 --views.small.crop.scale 0.14,0.14`.
"""

from tapetum.methods.distill.dinov2 import DINOv2
from tapetum.views import Crop
from tapetum.views.policies import SMALL


class DINOv2Crops(DINOv2):
    def crops(self, small_crops):
        return {"large": 2 * [Crop(scale=(0.32, 1.0))], "small": small_crops * [Crop(SMALL, (0.05, 0.32))]}
