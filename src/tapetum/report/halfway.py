"""The encoder of a run: its product, or of a run that is not finished what its newest checkpoint holds."""

from typing import Any

import torch

from tapetum.base.errors import TapetumError
from tapetum.data.source import Source
from tapetum.encoders import Encoder, load
from tapetum.report.story import Story
from tapetum.train import checkpoint, config, contents, defaults, setup


def encoder_of(told: Story, source: Source) -> tuple[Encoder, str]:
    """The network that a run's pages look through, and a sentence where it is not the finished one.

    Raises TapetumError where there is none yet, or it cannot be built again.
    """
    if told.finished:
        return load(told.folder), ""
    if str(told.settings.get("method", "")).endswith(".py"):
        raise TapetumError(
            "The run is not finished, and its method is somebody's own file, which a report does not run. "
            "A map appears when it is finished."
        )
    try:
        found = checkpoint.newest(told.folder / "checkpoints")
        if found is None:
            raise TapetumError("There is no checkpoint yet, so there is no map and there are no neighbours.")
        path, facts = found
        own, groups = config.split(told.settings)
        value: dict[str, Any] = {**defaults.PLAIN, **own}
        with torch.random.fork_rng(devices=[]):  # weights are drawn, then replaced
            groups = config.parsed(groups, value["method"])
            method, _ = setup.network(value, groups, source, filled=False)
        contents.restore_method(path, method)
    except KeyError as error:
        raise TapetumError(f"config.yaml does not describe a run: it has no {error}.") from error
    step = f"its newest checkpoint, step {facts['step']:,} of {told.steps:,}"
    return method.product().eval(), f"The run is not finished: the network is that of {step}."
