"""Five methods learn today what they learnt when their curves were kept."""

from functools import partial

import pytest

from benchmark_modules import load

golden = load("golden")


@pytest.mark.parametrize("name", golden.METHODS)
def test_the_curve_is_the_kept_one(name):
    gap = golden.apart(golden.kept()[name], golden.curve(name))
    assert gap < golden.TOLERANCE, (
        f"the losses of {name} differ by {gap:.2g} from those kept; if that is meant, "
        "say `python -m benchmarks.golden --write`"
    )


def test_a_small_change_is_seen(monkeypatch):
    """A learning rate that is higher by a ten-thousandth, and a curve that is too short."""
    kept = golden.kept()["mae"]
    monkeypatch.setattr(golden.sandbox, "train", partial(golden.sandbox.train, lr=1.0001e-3))
    assert golden.apart(kept, golden.curve("mae")) > golden.TOLERANCE
    assert golden.apart(kept, kept[:-1]) == float("inf")
