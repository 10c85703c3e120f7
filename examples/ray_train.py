"""Pretraining on a Ray cluster: python examples/ray_train.py IMAGES RUN WORKERS [SETTING=VALUE ...]

Ray Train starts the processes and starts them again when one dies; each calls tapetum.pretrain, which goes
on from the run's last checkpoint. IMAGES and RUN lie where all nodes see them.
"""

import sys
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer


def work(settings: dict[str, Any]) -> None:
    """What each worker does."""
    import tapetum

    tapetum.pretrain(resume="auto", **settings)


def main(images: str, run: str, processes: int, **settings: Any) -> None:
    """Train on so many workers, each with a GPU where there are GPUs."""
    gpu = torch.cuda.is_available()
    TorchTrainer(
        work,
        train_loop_config={"data": images, "out": run, **settings},
        scaling_config=ScalingConfig(num_workers=processes, use_gpu=gpu),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
        run_config=RunConfig(
            storage_path=str(Path(run).absolute().parent), failure_config=FailureConfig(max_failures=3)
        ),
    ).fit()


if __name__ == "__main__":
    ray.init(ignore_reinit_error=True, include_dashboard=False)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), **dict(pair.split("=", 1) for pair in sys.argv[4:]))
