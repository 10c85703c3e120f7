"""AutoAugment's published policies (arXiv:1805.09501): two actions, how likely, at which of ten levels."""

Subpolicy = list[tuple[str, float, int]]


def read(table: str) -> list[Subpolicy]:
    """Lines of `operation probability level, operation probability level`."""
    found = []
    for line in table.strip().splitlines():
        parts = [part.split() for part in line.split(",")]
        found.append([(name, float(p), int(level)) for name, p, level in parts])
    return found


SUBPOLICIES = {
    "cifar10": read("""
        Invert .1 0, Contrast .2 6
        Rotate .7 2, MoveX .3 9
        Sharpness .8 1, Sharpness .9 3
        ShearY .5 8, MoveY .7 9
        AutoContrast .5 0, Equalise .9 0
        ShearY .2 7, Posterise .3 7
        Saturation .4 3, Brightness .6 7
        Sharpness .3 9, Brightness .7 9
        Equalise .6 0, Equalise .5 0
        Contrast .6 7, Sharpness .6 5
        Saturation .7 7, MoveX .5 8
        Equalise .3 0, AutoContrast .4 0
        MoveY .4 3, Sharpness .2 6
        Brightness .9 6, Saturation .2 8
        Solarise .5 2, Invert 0 0
        Equalise .2 0, AutoContrast .6 0
        Equalise .2 0, Equalise .6 0
        Saturation .9 9, Equalise .6 0
        AutoContrast .8 0, Solarise .2 8
        Brightness .1 3, Saturation .7 0
        Solarise .4 5, AutoContrast .9 0
        MoveY .9 9, MoveY .7 9
        AutoContrast .9 0, Solarise .8 3
        Equalise .8 0, Invert .1 0
        MoveY .7 9, AutoContrast .9 0"""),
    "imagenet": read("""
        Posterise .4 8, Rotate .6 9
        Solarise .6 5, AutoContrast .6 0
        Equalise .8 0, Equalise .6 0
        Posterise .6 7, Posterise .6 6
        Equalise .4 0, Solarise .2 4
        Equalise .4 0, Rotate .8 8
        Solarise .6 3, Equalise .6 0
        Posterise .8 5, Equalise 1 0
        Rotate .2 3, Solarise .6 8
        Equalise .6 0, Posterise .4 6
        Rotate .8 8, Saturation .4 0
        Rotate .4 9, Equalise .6 0
        Equalise 0 0, Equalise .8 0
        Invert .6 0, Equalise 1 0
        Saturation .6 4, Contrast 1 8
        Rotate .8 8, Saturation 1 2
        Saturation .8 8, Solarise .8 7
        Sharpness .4 7, Invert .6 0
        ShearX .6 5, Equalise 1 0
        Saturation .4 0, Equalise .6 0
        Equalise .4 0, Solarise .2 4
        Solarise .6 5, AutoContrast .6 0
        Invert .6 0, Equalise 1 0
        Saturation .6 4, Contrast 1 8
        Equalise .8 0, Equalise .6 0"""),
    "svhn": read("""
        ShearX .9 4, Invert .2 0
        ShearY .9 8, Invert .7 0
        Equalise .6 0, Solarise .6 6
        Invert .9 0, Equalise .6 0
        Equalise .6 0, Rotate .9 3
        ShearX .9 4, AutoContrast .8 0
        ShearY .9 8, Invert .4 0
        ShearY .9 5, Solarise .2 6
        Invert .9 0, AutoContrast .8 0
        Equalise .6 0, Rotate .9 3
        ShearX .9 4, Solarise .3 3
        ShearY .8 8, Invert .7 0
        Equalise .9 0, MoveY .6 6
        Invert .9 0, Equalise .6 0
        Contrast .3 3, Rotate .8 4
        Invert .8 0, MoveY 0 2
        ShearY .7 6, Solarise .4 8
        Invert .6 0, Rotate .8 4
        ShearY .3 7, MoveX .9 3
        ShearX .1 6, Invert .6 0
        Solarise .7 2, MoveY .6 7
        ShearY .8 4, Invert .8 0
        ShearX .7 9, MoveY .8 3
        ShearY .8 5, AutoContrast .7 0
        ShearX .7 2, Invert .1 0"""),
}
