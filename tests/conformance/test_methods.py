"""Every method passes every check of the conformance suite; a new file in methods/ is found by itself."""

import pytest

from tapetum.methods import find, names
from tapetum.train import alike, check


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("one", check.CHECKS, ids=lambda c: c.__name__)
def test_method(one, name):
    one(find(name))


@pytest.mark.parametrize("way", alike.WAYS)
def test_every_method_is_the_same_on_two_processes_as_on_one(way):
    assert alike.wrong(names(), way=way) == {}


def test_some_are_the_same_on_four():
    """With queue, clusters of all images, centre, tokens, and a covariance of the whole batch."""
    assert alike.wrong(["mocov2", "deepclusterv2", "dinov2", "mae", "vicreg"], world=4) == {}
