"""The verb that puts encoders beside each other: compare."""

from __future__ import annotations

from typing import Any

from tapetum.base.verb import verb


@verb
def compare(
    *runs: str,
    against: str | None = None,
    protocols: tuple[str, ...] = (),
    out: tuple[str, ...] = (),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Compare encoders that `evaluate` measured: numbers, paired tests, cost, baselines.

    Args:
        runs: runs or files of results, with all encoders in them; FILE#NAME or FILE#2 is one of them,
            FILE#pixels, FILE#start and "FILE#random weights" are baselines.
        against: what the others are tested against, by the name of its column, also a baseline. [the first]
        protocols: which protocols' numbers, by commas. [all]
        out: files to write, by commas: .png (a chart), .md, .csv (tables), .json (everything).
        overwrite: replace files that exist.

    Numbers are compared only where their whole protocol is the same; what differs elsewhere is said. Tests go
    image by image, and Holm's correction over all of them. One run alone is compared with its baselines.
    """
    own = dict(locals())
    from tapetum.report.compare import compare as run

    return run(own.pop("runs"), **own)
