"""What an encoder costs: numbers that do not hang on the machine."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tapetum.encoders import Encoder


@torch.no_grad()
def cost(encoder: Encoder) -> dict[str, Any]:
    """{"parameters", "flops" of one image (a multiplication with its addition counts two), "dim"}."""
    was, device = encoder.training, encoder.mean.device
    x = torch.zeros(1, len(encoder.spec.mean), encoder.image_size, encoder.image_size, device=device)
    with FlopCounterMode(display=False) as counter:
        encoder.eval()(x)
    encoder.train(was)
    parameters = sum(p.numel() for p in encoder.parameters())
    return {"parameters": parameters, "flops": counter.get_total_flops(), "dim": encoder.dim}
