"""Writes what tapetum stands on as a bill of materials: CycloneDX in JSON, from the packages installed here.

python docs/build_sbom.py [OUT] [--extra NAME ...]      `make sbom` writes dist/sbom.json
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement

ROOT = "tapetum"


def plain(name: str) -> str:
    """One spelling for one package: PyYAML and pyyaml."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required(dist: metadata.Distribution, extras: Iterable[str]) -> Iterator[Requirement]:
    """What a package asks for here, with these of its extras."""
    for text in dist.requires or []:
        wanted = Requirement(text)
        marks = [{"extra": extra} for extra in ("", *extras)]
        if wanted.marker is None or any(wanted.marker.evaluate(mark) for mark in marks):
            yield wanted


def closure(roots: Iterable[str]) -> dict[str, tuple[metadata.Distribution, list[str]]]:
    """{name: (package, names of what it asks for)} of these ("torch", "tapetum[dev]") and of all below them
    that is installed."""
    found: dict[str, tuple[metadata.Distribution, list[str]]] = {}
    done: set[tuple[str, str]] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        wanted = waiting.pop()
        name = plain(wanted.name)
        new = [extra for extra in ("", *wanted.extras) if (name, extra) not in done]
        done |= {(name, extra) for extra in new}
        if not new:
            continue
        try:
            dist = found[name][0] if name in found else metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        asked = list(required(dist, wanted.extras))
        before = found[name][1] if name in found else []
        found[name] = dist, sorted({*before, *(plain(one.name) for one in asked)})
        waiting += asked
    return found


def bill(roots: Iterable[str]) -> dict[str, Any]:
    """The bill of materials of these packages."""
    found = closure(roots)
    parts = {name: _component(name, dist) for name, (dist, _) in sorted(found.items())}
    links = [
        {"ref": parts[name]["bom-ref"], "dependsOn": [parts[one]["bom-ref"] for one in asked if one in parts]}
        for name, (_, asked) in sorted(found.items())
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**parts.pop(ROOT), "type": "application"}} if ROOT in parts else {},
        "components": list(parts.values()),
        "dependencies": links,
    }


def _component(name: str, dist: metadata.Distribution) -> dict[str, Any]:
    place = f"pkg:pypi/{name}@{quote(dist.version)}"
    said = dist.metadata.get("License-Expression") or dist.metadata.get("License") or ""
    one = {"type": "library", "bom-ref": place, "name": name, "version": dist.version, "purl": place}
    line = said.strip().splitlines()[0][:100] if said.strip() else ""
    return {**one, "licenses": [{"license": {"name": line}}]} if line else one


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", default="dist/sbom.json", type=Path)
    parser.add_argument("--extra", action="append", default=[])
    given = parser.parse_args(arguments)
    root = f"{ROOT}[{','.join(given.extra)}]" if given.extra else ROOT
    made = bill([root])
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(made, indent=1) + "\n")
    print(f"wrote {given.out}: {len(made['components'])} packages below {root}")


if __name__ == "__main__":
    main(sys.argv[1:])
