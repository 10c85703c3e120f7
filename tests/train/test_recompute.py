"""Blocks computed anew in the backward pass: the same gradients and buffers from fewer kept activations."""

import copy
import inspect

import pytest
import torch

from tapetum import encoders
from tapetum.base.errors import TapetumError
from tapetum.encoders.chunks import in_chunks
from tapetum.methods import find
from tapetum.train import recompute, sandbox
from tapetum.train.blocks import blocks_of

NETS = {
    "resnet10_w32": {"channels": (8, 16, 32, 64), "drop_path_rate": 0.3},
    "vit_tiny_patch16_224": {
        "patch_size": 8,
        "embed_dim": 32,
        "depth": 4,
        "num_heads": 2,
        "drop_path_rate": 0.3,
    },
    "convnext_atto": {"drop_path_rate": 0.3},
}


def pair(name: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    plain = encoders.build(name, 32, **NETS[name]).double().train()
    frugal = copy.deepcopy(plain)
    recompute.blockwise(frugal)
    return plain, frugal


def after(encoder: torch.nn.Module) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients and buffers after two passes and one backward pass, and the numbers kept for it."""
    torch.manual_seed(1)
    x = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        loss = encoder(x).square().mean() + encoder(x.flip(3)).sum()
    loss.backward()
    found = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    return found | dict(encoder.named_buffers()), sum(kept.values())


@pytest.mark.parametrize("name", NETS)
def test_gradients_and_buffers_are_the_same(name):
    plain, frugal = pair(name)
    (wanted, most), (found, least) = after(plain), after(frugal)
    assert found.keys() == wanted.keys()
    for n in wanted:
        torch.testing.assert_close(found[n], wanted[n], rtol=1e-12, atol=1e-12, msg=n)
    assert least < 0.7 * most  # of these small ones the stem is the larger part


def test_batches_would_be_counted_twice(monkeypatch):
    monkeypatch.setattr(recompute, "unmoved", lambda module: torch.enable_grad())
    plain, frugal = pair("resnet10_w32")
    wanted, found = after(plain)[0], after(frugal)[0]
    assert int(found["net.layer1.0.bn1.num_batches_tracked"]) == 4
    assert not torch.allclose(found["net.layer1.0.bn1.running_mean"], wanted["net.layer1.0.bn1.running_mean"])


def test_blocks_keep_their_signature_and_are_the_plain_ones_without_gradient(monkeypatch):
    plain, frugal = pair("vit_tiny_patch16_224")
    assert "attn_mask" in inspect.signature(frugal.net.blocks[0].forward).parameters
    assert len(blocks_of(frugal)) == 4
    x = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    monkeypatch.setattr(recompute, "checkpoint", None)
    with torch.no_grad():
        assert torch.equal(frugal.eval()(x), plain.eval()(x))
    with pytest.raises(TypeError):
        frugal(x)


@pytest.mark.parametrize("name", NETS)
def test_blocks_are_computed_anew_within_chunks(name):
    plain, frugal = pair(name)
    found = []
    for encoder in (plain, frugal):
        with in_chunks(encoder, 2):
            found.append(after(encoder)[0])
    assert found[0].keys() == found[1].keys()
    for n, wanted in found[0].items():
        torch.testing.assert_close(found[1][n], wanted, rtol=1e-12, atol=1e-12, msg=n)


@pytest.mark.parametrize("name", ["nepa", "byol"])
def test_methods_train_the_same(name):
    ends = []
    for frugal in (False, True):
        method = sandbox.build(find(name)).double()
        if frugal:
            recompute.blockwise(method)
        losses = [row["loss"] for row in sandbox.train(method, 2)]
        ends.append(sandbox.state(method) | {"losses": torch.tensor(losses)})
    for n, wanted in ends[0].items():
        torch.testing.assert_close(ends[1][n], wanted, rtol=1e-9, atol=1e-10, msg=n)


def test_where_places_are_hidden_in_a_convnet_it_is_refused():
    method = sandbox.build(find("cnn_jepa"))
    recompute.blockwise(method)
    with pytest.raises(TapetumError, match="grad_checkpointing"):
        method.loss(sandbox.one_batch(method), 0.5)
