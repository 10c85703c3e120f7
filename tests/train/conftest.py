"""What tests of whole runs share."""

from collections.abc import Callable

import pytest

from small_runs import typed


@pytest.fixture(scope="session")
def flags() -> Callable[[dict], list[str]]:
    """Settings of tapetum.pretrain as they are typed on the command line."""
    return typed
