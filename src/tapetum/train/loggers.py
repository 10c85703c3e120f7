"""Where the numbers go besides metrics.jsonl: TensorBoard, Weights & Biases, MLflow, or a function."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from tapetum.base.errors import TapetumError, unknown

Logger = Callable[[int, dict[str, float]], None]  # called with the step and its numbers


def tensorboard(run: Path, config: dict) -> Logger:
    """Write event files to RUN/tensorboard."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run / "tensorboard"))

    def log(step: int, numbers: dict[str, float]) -> None:
        try:
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)
        except OSError as error:  # of its thread, from some numbers ago
            raise TapetumError(f"cannot write {run / 'tensorboard'}: {error.strerror or error}.") from error

    return log


def wandb(run: Path, config: dict) -> Logger:
    """Send numbers to Weights & Biases, under the run folder's name."""
    import wandb

    session = wandb.init(project="tapetum", name=run.name, dir=str(run), config=config, resume="allow")
    return lambda step, numbers: session.log(numbers, step=step)


def mlflow(run: Path, config: dict) -> Logger:
    """Send numbers to MLflow's tracking server."""
    import mlflow

    mlflow.start_run(run_name=run.name)
    mlflow.log_params(config)
    return lambda step, numbers: mlflow.log_metrics(numbers, step=step)


KNOWN = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}


def check(names: "list[str | Logger]") -> None:
    """Refuse loggers that are not known or not installed, before any work is done."""
    for name in names:
        if callable(name):
            continue
        if name not in KNOWN:
            raise unknown("logger", name, KNOWN)
        if importlib.util.find_spec(name) is None:
            raise TapetumError(
                f"the logger {name} is not installed; `pip install tapetum[{name}]` brings it."
            )


def build(names: "list[str | Logger] | None", run: Path, config: dict) -> list[Logger]:
    """The loggers asked for; TensorBoard by itself where it is installed and nothing is asked."""
    if names is None:
        names = ["tensorboard"] if importlib.util.find_spec("tensorboard") else []
    return [name if callable(name) else KNOWN[name](run, config) for name in names]
