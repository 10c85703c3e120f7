"""Five methods learn today what they learnt when their curves were kept."""

import pytest

from benchmark_modules import load
from tapetum.parts.schedule import Ramp

golden = load("golden")


@pytest.mark.parametrize("name", golden.METHODS)
def test_the_curve_is_the_kept_one(name):
    gap = golden.apart(golden.kept()[name], golden.curve(name))
    assert gap < golden.TOLERANCE, (
        f"the losses of {name} differ by {gap:.2g} from those kept; if that is meant, "
        "say `python -m benchmarks.golden --write`"
    )


def test_a_small_change_is_seen(monkeypatch):
    """A momentum that differs by a thousandth, and a curve that is too short."""
    kept = golden.kept()["byol"]
    changed = golden.curve("byol", momentum=Ramp(0.995, 1.0))
    assert golden.apart(kept, changed) > golden.TOLERANCE
    assert golden.apart(kept, kept[:-1]) == float("inf")
