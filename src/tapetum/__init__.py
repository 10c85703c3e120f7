"""Tapetum: from a folder of images to an encoder that you can trust.

The verbs of the command line are functions here: `tapetum.pretrain(...)`, `tapetum.evaluate(...)`,
`tapetum.embed(...)`, `tapetum.export(...)`, and `tapetum.load(...)` for the encoder itself.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["check", "demo", "embed", "evaluate", "export", "inspect", "load", "new", "pretrain"]

if TYPE_CHECKING:
    from tapetum.verbs import check, demo, embed, evaluate, export, inspect, load, new, pretrain


def __getattr__(name: str) -> Any:
    """The verbs, found when first used: `import tapetum` alone imports no torch."""
    if name in __all__:
        from tapetum import verbs

        return getattr(verbs, name)
    raise AttributeError(f"module 'tapetum' has no attribute {name!r}")
