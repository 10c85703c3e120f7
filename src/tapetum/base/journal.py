"""A file of JSON lines that a long process adds to, and that a full disk neither breaks nor stops."""

import json
from pathlib import Path
from typing import Any

from tapetum.base.console import warn
from tapetum.base.errors import TapetumError
from tapetum.base.files import append


class Journal:
    """Lines that cannot be written wait in memory and are tried again with the next; one warning says so."""

    def __init__(self, path: Path):
        self.path = path
        self.waiting: list[str] = []
        self.warned = False

    def add(self, row: dict[str, Any]) -> None:
        self.waiting.append(json.dumps(row) + "\n")
        try:
            self.close()
        except TapetumError as error:
            if not self.warned:
                warn(f"{error} Its lines wait in memory.")
            self.warned = True

    def close(self) -> None:
        """Write what waits. Raises TapetumError where it still cannot be written."""
        if self.waiting:
            append(self.path, "".join(self.waiting))
            self.waiting, self.warned = [], False
