"""What tests of whole runs share."""

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def flags() -> Callable[[dict], list[str]]:
    """Settings of tapetum.pretrain as they are typed on the command line."""

    def typed(settings: dict) -> list[str]:
        words: list[str] = []
        for name, value in settings.items():
            if name.endswith("_settings"):
                group = name.removesuffix("_settings")
                for inner, v in value.items():
                    words += [
                        f"--{group}.{inner}",
                        ",".join(map(str, v)) if isinstance(v, list) else str(v),
                    ]
            else:
                words += [f"--{name.replace('_', '-')}", str(value)]
        return words

    return typed
