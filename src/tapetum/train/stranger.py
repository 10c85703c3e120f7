"""What must be true of a run's folder, which may come from a stranger, before anything is written into it."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tapetum.base.addresses import is_address
from tapetum.base.errors import TapetumError, unknown
from tapetum.train import config

NEVER = ("out", "resume", "plan", "budget", "logger", "stop_when")  # what only a person says, each time


def no_way_out(folder: Path) -> None:
    """Raise TapetumError where a link in a run's folder leads out of it: a run writes nowhere else."""
    top = folder.resolve()
    for place, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(top):
                raise TapetumError(
                    f"{folder / path.relative_to(top)} is a link that leads out of the run's folder, "
                    "where nothing is written; put the thing itself in its place."
                )


def closed(folder: Path, saved: dict[str, Any], known: Collection[str]) -> None:
    """Raise TapetumError for what a run's settings never hold: unknown names, and places to write to."""
    names = {*known, "data", *config.FACTS} - set(NEVER)
    for name, value in saved.items():
        group, dot, _ = name.partition(".")
        if (group if dot else name) not in (config.GROUPS if dot else names) and value is not None:
            raise unknown(f"setting in {folder}/config.yaml", name, names)


def near(settings: dict[str, Any]) -> dict[str, Any]:
    """A run's settings without addresses: only what a person has typed is asked for over a network."""
    return {name: value for name, value in settings.items() if not is_address(value)}


def typed(folder: Path, saved: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise TapetumError for an address in a run's settings that is not given again."""
    for name in sorted(saved.keys() - near(saved).keys()):
        if given.get(name) is None:
            again = "as DATA" if name == "data" else f"as --{name.replace('_', '-')}"
            raise TapetumError(
                f"{name} in {folder}/config.yaml is {saved[name]}, and over a network only what you type is "
                f"asked for; give it again, {again}."
            )
