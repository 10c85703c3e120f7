"""Fine-tuning: a copy of the encoder, whole or in part, learns the labels together with a linear head."""

from dataclasses import asdict

import torch

from tapetum.base.settings import Amount, Count, Positive, Share
from tapetum.evaluate import finetuning
from tapetum.evaluate.case import Case
from tapetum.evaluate.finetuning import Augment, Recipe, Statistics, What, finetune
from tapetum.evaluate.learn import answers, truth
from tapetum.evaluate.result import Result

VERSION = 1
SPLITS = "once"


def protocol(
    case: Case,
    *,
    what: What = Recipe.what,
    blocks: Count = Recipe.blocks,
    rank: Count = Recipe.rank,
    alpha: Positive = Recipe.alpha,
    pattern: str = Recipe.pattern,
    statistics: Statistics = Recipe.statistics,
    epochs: Count | None = Recipe.epochs,
    batch_size: Count = Recipe.batch_size,
    lr: Positive | None = Recipe.lr,
    head_lr: Positive = Recipe.head_lr,
    layer_decay: Share | None = Recipe.layer_decay,
    weight_decay: Amount = Recipe.weight_decay,
    augment: Augment = Recipe.augment,
    smoothing: Share = Recipe.smoothing,
    mixup: Share = Recipe.mixup,
    cutmix: Share = Recipe.cutmix,
    seeds: Count = 1,
) -> Result:
    """The network answers as it is after the last epoch. Nothing is chosen, so no images are held out. With
    several seeds the value is their mean, and the error bar includes their spread.

    Args:
        what: which weights of the encoder learn: "full" all, "last" those of the last blocks, "lora" low-rank
            adapters (arXiv:2106.09685), "head" none.
        blocks: how many blocks at the end learn with "last".
        rank, alpha: of the adapters with "lora"; what they add counts alpha / rank.
        pattern: a regular expression that finds the names of the layers that get adapters; "" finds all.
        statistics: batch norms go by those "kept" from pretraining, or by each "batch".
        epochs: by default as many as 1,000 steps take, at least 5 and at most 100.
        batch_size: images a step.
        lr: AdamW's peak rate for the encoder; by default 3e-4 (ViTs 1e-4), for adapters 1e-3. It climbs for a
            tenth of the steps and then falls to 0 in a cosine.
        head_lr: the same for the head.
        layer_decay: with "full", each layer learns at this share of the rate of the one behind it
            (arXiv:2106.08254); by default 0.75 for ViTs and 0.9 for others.
        weight_decay: of weights; biases and norms have none.
        augment: the views that are learnt from: "crop" (and flip), "shift" (and flip), "none", or a policy of
            that name; "auto" is shift for images of up to 64 pixels, else crop.
        smoothing: share of the target that is spread over all classes.
        mixup, cutmix: alpha of the mixing of images and their targets, up to 1; 0 turns it off.
        seeds: how often all of it is done.
    """
    recipe = Recipe(
        what, blocks, rank, alpha, pattern, statistics, epochs, batch_size, lr, head_lr, layer_decay,
        weight_decay, augment, smoothing, mixup, cutmix,
    )  # fmt: skip
    data, every = case.labelled, [case.seed + i for i in range(seeds)]
    source, judges = case.train.source.take(data.seen), case.test.source.take(data.rows)
    found = []
    for seed in every:
        tuned, head = finetune(
            case.extractor, source, case.kind, data.y, data.x, recipe, width=data.width, seed=seed
        )
        found.append(answers(head(torch.from_numpy(tuned.computed(judges))), case))
    return case.result(
        "finetune",
        VERSION,
        case.metric,
        torch.stack(found),
        truth(case),
        rows=data.rows,
        head=asdict(recipe),
        schedule={"epochs": finetuning.epochs(recipe, len(source))},
        seeds=every,
        notes=data.notes,
        label=f"finetune ({what}) {case.metric}".replace("_", " "),
    )
