"""Guesses from the names and shapes of tensors what network they are of."""

import re
from collections.abc import Mapping, Sequence

_RESNETS = {  # blocks of each stage, and whether a block has three convolutions
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
_KINDS = [  # a part of a name that only this kind has; the first that is found tells
    (r"relative_position_bias_table", "Swin Transformer"),
    (r"visual\.transformer\.resblocks\.\d+\.", "CLIP's vision transformer"),
    (r"(?:^|\.)blocks\.\d+(?:\.\d+)?\.attn\.qkv\.", "vision transformer"),
    (r"encoder\.layer\.\d+\.attention\.", "vision transformer (transformers)"),
    (r"stages\.\d+\.(?:blocks\.)?\d+\.(?:conv_dw|dwconv|gamma)", "ConvNeXt"),
    (r"(?:^|\.)layer\d\.\d+\.conv\d\.", "ResNet"),
    (r"features\.denseblock\d", "DenseNet"),
    (r"blocks\.\d+\.\d+\.conv_pw", "EfficientNet or MobileNet"),
    (r"(?:^|\.)features\.\d+\.weight", "VGG or AlexNet"),
]
Shapes = Mapping[str, Sequence[int]]


def architecture(shapes: Shapes) -> str:
    """What network has tensors of these names and shapes, in words; "" where nothing says so."""
    kind = next((kind for part, kind in _KINDS if any(re.search(part, name) for name in shapes)), "")
    if kind == "ResNet":
        return _resnet(shapes)
    if kind.startswith("vision"):
        return ", ".join([kind, *_transformer(shapes)])
    return kind


def _resnet(shapes: Shapes) -> str:
    found = {(int(m[1]), int(m[2])) for n in shapes if (m := re.search(r"layer(\d)\.(\d{1,3})\.conv", n))}
    first, second, third, fourth = (sum(stage == s for s, _ in found) for stage in (1, 2, 3, 4))
    blocks = (first, second, third, fourth)
    deep = any(re.search(r"layer\d\.\d+\.conv3\.", name) for name in shapes)
    return _RESNETS.get((blocks, deep), f"ResNet with {'-'.join(map(str, blocks))} blocks")


def _transformer(shapes: Shapes) -> list[str]:
    """Its blocks, width and patch."""
    found = {m[0] for n in shapes if (m := re.search(r"(?:blocks(?:\.\d+)?|layer)\.\d+(?=\.att)", n))}
    words = [f"{len(found)} blocks"]
    patch = next((s for n, s in shapes.items() if re.search(r"patch_embed\w*\.\w+\.weight$", n)), ())
    if len(patch) == 4:
        words += [f"width {patch[0]}", f"patches of {patch[2]} x {patch[3]} pixels"]
    return words
