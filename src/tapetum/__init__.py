"""Tapetum: from a folder of images to an encoder that you can trust.

The verbs of the command line are functions here: `tapetum.pretrain(...)`, `tapetum.evaluate(...)`,
`tapetum.embed(...)`, `tapetum.fit(...)`, and `tapetum.load(...)` for the encoder itself. What a user can mend
is raised as `tapetum.TapetumError`.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tapetum.base.errors import TapetumError

__version__ = "0.1.0"
__all__ = [
    "TapetumError",
    "ablate",
    "cache",
    "check",
    "compare",
    "demo",
    "embed",
    "evaluate",
    "export",
    "fit",
    "inspect",
    "load",
    "look",
    "lr_find",
    "methods",
    "new",
    "pack",
    "predict",
    "pretrain",
    "preview",
    "protocols",
    "report",
    "ui",
]
SHARED = (
    "demo",
    "evaluate",
    "methods",
    "report",
)  # names of verbs that are also names of folders or files here

if TYPE_CHECKING:
    from tapetum.verbs import (
        ablate,
        cache,
        check,
        compare,
        demo,
        embed,
        evaluate,
        export,
        fit,
        inspect,
        load,
        look,
        lr_find,
        methods,
        new,
        pack,
        predict,
        pretrain,
        preview,
        protocols,
        report,
        ui,
    )


def __getattr__(name: str) -> Any:
    """The verbs, found when first used: `import tapetum` alone imports no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'tapetum' has no attribute {name!r}")
    if name in SHARED:
        return importlib.import_module(f"tapetum.{name}")
    return getattr(importlib.import_module("tapetum.verbs"), name)


class _Callable(ModuleType):
    """So that `tapetum.evaluate(...)` is the verb and `tapetum.evaluate.knn` still the module."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        verbs = importlib.import_module("tapetum.verbs")
        return getattr(verbs, self.__name__.rpartition(".")[2])(*args, **settings)


class _Tapetum(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        if name in SHARED and isinstance(value, ModuleType):
            value.__class__ = _Callable  # the import system puts each submodule here
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Tapetum
