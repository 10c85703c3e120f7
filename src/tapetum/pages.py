"""The verbs that make pages for a browser: report of a run, look at images, and the dashboard of runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Whole
from tapetum.base.verb import verb

Settings = dict[str, Any]


@verb
def report(
    run: str,
    *,
    out: str | None = None,
    data: str | None = None,
    images: Annotated[int, 3, 60_000] = 2000,
    map: Literal["pca", "umap"] = "pca",
    seed: Whole = 0,
    overwrite: bool = False,
    device: str | None = None,
) -> Settings:
    """Write one HTML file on a run: curves, health, results, a map of images, neighbours, mistakes.

    Args:
        run: the folder of a run, finished, going or stopped.
        out: the .html file. [report.html of the run, which is replaced]
        data: images to show. [those that were judged, where they are found, else those trained on]
        images: how many are on the map; drawn by seed.
        map: pca, or umap, for which umap-learn must be installed.
        seed: of what is drawn.
        overwrite: replace a file that exists.
        device: where features are computed. [a GPU where there is one]
    """
    own = dict(locals())
    from tapetum.report.of_run import report as run_

    return run_(**own)


@verb
def look(
    data: Any,
    *,
    labels: Any = "auto",
    encoder: str | None = None,
    out: str = "look.html",
    images: Annotated[int, 3, 10_000] = 2000,
    map: Literal["pca", "umap"] = "pca",
    split: str | None = None,
    seed: Whole = 0,
    overwrite: bool = False,
    image_size: Count | None = None,
    device: str | None = None,
) -> Settings:
    """Write one HTML file on images: sizes, classes, damage, duplicates, outliers, a map, what is learnable.

    Args:
        data: images in any form that pretrain takes.
        labels: auto, folders, none, or a file joined by relative path.
        encoder: a run, a file, timm:NAME, random:NAME, or pixels. [public weights if installed, else pixels]
        out: the .html file.
        images: how many are on the map; drawn by seed.
        map: pca, or umap, for which umap-learn must be installed.
        split: which part of the data to use. [all]
        seed: of what is drawn.
        overwrite: replace a file that exists.
        image_size: for timm:NAME, where it shall not be the model's own.
        device: where features are computed. [a GPU where there is one]
    """
    own = dict(locals())
    from tapetum.report.of_data import look as run

    return run(**own)


@verb
def ui(*runs: str, port: Annotated[int, 0, 65535] = 8228, open: bool = False) -> Settings:
    """Serve a dashboard of runs, also those that go on: table, filters, live curves, pages with maps.

    Args:
        runs: a folder of runs, or the folders of runs.
        port: of this machine; 0 takes any free one.
        open: show it in the browser.

    It listens on the loopback address only, wants the token that stands in the printed address, and writes
    nothing to the runs. Ctrl-C ends it.
    """
    from tapetum.report.dashboard import ui as run

    if not runs:
        raise TapetumError("ui needs runs: a folder of runs, or the folders of runs.")
    return run(runs, port, open)
