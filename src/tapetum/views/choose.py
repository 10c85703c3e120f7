"""One of several operations for each image."""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from tapetum.base.errors import TapetumError
from tapetum.views.operation import Chance, Fill, Operation, Parameters, fill_of


@dataclass(frozen=True)
class OneOf(Operation):
    """One of several operations for each image, each as likely, with probability `p`; the chosen one still
    happens with its own probability. Parameters are those of the choices, named "0.on", "1.on", ..."""

    choices: tuple[Operation, ...]
    p: float = 1.0
    SLOTS: ClassVar[int] = 2
    TURNS: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        wrong = [f"not {type(c).__name__}" for c in self.choices if not isinstance(c, Chance)]
        if wrong or not self.choices:
            said = wrong[0] if wrong else "and there are none"
            raise TapetumError(f"OneOf chooses among operations that have a probability p, {said}.")
        object.__setattr__(self, "SLOTS", 2 + sum(c.SLOTS for c in self.choices))
        object.__setattr__(self, "TURNS", any(c.TURNS for c in self.choices))

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """on, choice [B], and what each choice draws; a choice that was not taken is not on."""
        on, choice = u[:, 0] < self.p, (u[:, 1] * len(self.choices)).long()
        given, at = {"on": on, "choice": choice}, 2
        for k, step in enumerate(self.choices):
            drawn = step.draw(u[:, at : at + step.SLOTS], size, side)
            drawn["on"] = drawn["on"] & on & (choice == k)
            given |= {f"{k}.{name}": value for name, value in drawn.items()}
            at += step.SLOTS
        return given

    def place(self, given: Parameters) -> Tensor | None:
        geometry = None
        for step, drawn in self.parts(given):
            if (inner := step.place(drawn)) is not None:
                geometry = inner if geometry is None else geometry @ inner
        return geometry

    def bend(self, given: Parameters, at: Tensor) -> Tensor | None:
        moved = [field for step, drawn in self.parts(given) if (field := step.bend(drawn, at)) is not None]
        return sum(moved[1:], moved[0]) if moved else None

    def paint(self, x: Tensor, given: Parameters) -> Tensor:
        for step, drawn in self.parts(given):
            x = step.paint(x, drawn)
        return x

    def parts(self, given: Parameters) -> list[tuple[Operation, Parameters]]:
        """Each choice with its parameters."""
        starts = [f"{k}." for k in range(len(self.choices))]
        named = [{n.removeprefix(s): v for n, v in given.items() if n.startswith(s)} for s in starts]
        return list(zip(self.choices, named))

    def outside(self) -> Fill | None:
        return fill_of(self.choices)

    def inner(self) -> tuple[Operation, ...]:
        return self.choices

    def made_of(self, inner: tuple[Operation, ...]) -> "OneOf":
        return replace(self, choices=inner)
