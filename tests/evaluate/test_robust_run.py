"""The protocols of robustness through `evaluate`, settings as people type them, without test data."""

import numpy as np
import pytest
from PIL import Image

from tapetum.base.errors import TapetumError
from tapetum.evaluate.result import read_results
from tapetum.evaluate.run import evaluate
from tapetum.views import fast

SETTINGS = {
    "corruptions": {"which": "fog,spatter", "severities": "1,5", "head": "knn", "relative_to": "none"},
    "perturbations": {"which": "tilt", "frames": "3", "head": "knn"},
    "shape": {"grid": "2", "head": "knn"},
    "style": {"styles": "colours", "head": "knn"},
    "zoom": {"zooms": "0.5,2", "head": "knn"},
    "preprocessing": {"sizes": "0.75", "fits": "pad", "norms": "half", "k": "3"},
    "explanation": {"by": "integrated,random", "cells": "3", "steps": "3"},
    "invariance": {"operations": "crop,hue", "strengths": "0.5,1"},
}


@pytest.fixture(autouse=True)
def batched(monkeypatch):
    monkeypatch.setattr(fast, "can", lambda view, pixels: False)  # compiling takes longer than all of this


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_keeps_its_results_and_repeats_them(name, images, encoder, tmp_path):
    how = {"protocol_settings": {name: SETTINGS[name]}, "baselines": False, "duplicates": False}
    out = tmp_path / "out.json"
    found = evaluate(encoder, images, protocols=(name,), out=out, **how)
    assert found and all(np.isfinite([r.value, r.error_bar]).all() for r in found)
    again = evaluate(encoder, images, protocols=(name,), batch_size=5, workers=2, **how)
    assert [r.value for r in again] == pytest.approx([r.value for r in found], abs=1e-6)
    assert [r.protocol_id for r in again] == [r.protocol_id for r in found]
    kept = read_results(out)
    assert len({(r.protocol_id, r.subject_id) for r in kept}) == len(kept) == len(found)
    other = evaluate(encoder, images, protocols=(name,), seed=1, **how)
    assert {r.protocol_id for r in other}.isdisjoint(r.protocol_id for r in found)


def test_invariance_needs_no_labels(encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    g = np.random.default_rng(0)
    (tmp_path / "flat").mkdir()
    for i in range(30):
        Image.fromarray(g.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "flat" / f"{i}.png")
    how = {
        "protocol_settings": {"invariance": {"operations": "flip"}},
        "baselines": False,
        "duplicates": False,
    }
    found = evaluate(encoder, tmp_path / "flat", protocols=("invariance",), **how)
    assert [r.name for r in found] == ["invariance to flip", "equivariance to flip"]
    with pytest.raises(TapetumError, match="have no labels"):
        evaluate(encoder, tmp_path / "flat", protocols=("corruptions",), baselines=False, duplicates=False)


def test_a_wrong_word_is_one_sentence(encoder, images):
    for name, setting, words in (
        ("corruptions", {"severities": "6"}, "severities"),
        ("corruptions", {"strengths": "imagnet"}, "did you mean imagenet"),
        ("style", {"styles": "colour"}, "did you mean colours"),
        ("zoom", {"zoms": "2"}, "did you mean 'zooms'"),
    ):
        with pytest.raises(TapetumError, match=words):
            evaluate(encoder, images, protocols=(name,), protocol_settings={name: setting}, baselines=False)
