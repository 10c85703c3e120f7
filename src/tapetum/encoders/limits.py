"""What a file of settings, perhaps a stranger's, may ask of timm: a network, and nothing beyond it."""

import re
from typing import Any

from tapetum.base.errors import TapetumError

# arguments that read files, ask the network or write
REACHING = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
    *("num_classes", "scriptable", "exportable", "no_jit"),
)
LARGEST = 2**14  # of a whole number among timm's arguments
DEEPEST = 500  # layers, over all stages


def check(model: str, args: dict[str, Any]) -> None:
    """Raise TapetumError for arguments that reach out of the process, and for absurd sizes."""
    if wrong := [name for name in args if name in REACHING]:
        raise TapetumError(f"the encoder {model} takes no argument {wrong[0]!r}; --weights names weights.")
    deep = {name: value for name, value in args.items() if re.search("depth|layers|blocks", str(name))}
    if wrong := [name for name, value in deep.items() if _total(value) > DEEPEST]:
        raise TapetumError(f"the encoder {model} cannot be built: its {wrong[0]} is over {DEEPEST:,}.")
    if wrong := [name for name, value in args.items() if _largest(value) > LARGEST]:
        raise TapetumError(f"the encoder {model} cannot be built: its {wrong[0]} is over {LARGEST:,}.")


def _total(value: Any) -> int:
    """The sum of the whole numbers in an argument."""
    if isinstance(value, list | tuple):
        return sum(map(_total, value))
    return value if isinstance(value, int) else 0


def _largest(value: Any) -> float:
    """The largest whole number in an argument."""
    if isinstance(value, list | tuple):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int) else 0
