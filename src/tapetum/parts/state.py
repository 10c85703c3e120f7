"""What a method remembers between steps. All are modules, so saving a method saves them."""

import copy

import torch
from torch import Tensor, nn

from tapetum.encoders.chunks import BatchNorm


class Frozen(nn.Module):
    """A copy of a module that never learns and always stays in eval mode."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)

    def restore(self, *modules: nn.Module) -> None:
        """Give the modules whose list was frozen the weights and statistics back that they had then."""
        nn.ModuleList(modules).load_state_dict(self.module.state_dict())

    @torch.no_grad()
    def forward(self, *args):
        return self.module(*args)


class EMA(nn.Module):
    """A chain of modules whose weights follow their originals as an exponential moving average.

    The weights stay in float32 whatever the precision of training: in bf16 a momentum of 0.996 stands still.
    Normalisation statistics are the teacher's own.
    """

    def __init__(self, *modules: nn.Module):
        super().__init__()
        self.chain = nn.ModuleList(copy.deepcopy(modules)).requires_grad_(False)

    def train(self, mode: bool = True) -> "EMA":
        """In training batch norms take each batch's statistics; all else stays in eval mode, so that nothing
        of a teacher is dropped."""
        super().train(False)
        for part in self.modules():
            if isinstance(part, BatchNorm):
                part.training = mode
        return self

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        for module in self.chain:
            x = module(x)
        return x

    @torch.no_grad()
    def follow(self, momentum: float, *modules: nn.Module) -> None:
        """Move to momentum * own + (1 - momentum) * original."""
        own: list[Tensor] = list(self.chain.parameters())
        new: list[Tensor] = [p for m in modules for p in m.parameters()]
        if len(own) != len(new):
            raise ValueError(f"the average has {len(own)} tensors, its originals have {len(new)}")
        torch._foreach_lerp_(own, new, 1 - momentum)


class Queue(nn.Module):
    """The last `size` vectors that were pushed, oldest overwritten first."""

    items: Tensor
    next: Tensor

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.register_buffer("items", nn.functional.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, x: Tensor) -> None:
        """Remember the rows of x [B, D]; of more than `size`, the last ones."""
        x = x[-len(self.items) :]
        at = (self.next + torch.arange(len(x), device=x.device)) % len(self.items)
        self.items[at] = x.to(self.items)
        self.next += len(x)
