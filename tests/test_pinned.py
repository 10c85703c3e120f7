"""Nothing that CI installs floats, and the bill of materials names all of it."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BROUGHT = re.compile(r"nvidia-.*|cuda-.*|triton")  # by torch for a GPU, in versions that it names exactly


def _sbom():
    spec = importlib.util.spec_from_file_location("build_sbom", ROOT / "docs/build_sbom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sbom = _sbom()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(version and not re.search(r"[*<>~,\s]", version) for _, _, version in found)
    return {sbom.plain(name): version for name, _, version in found}


def asked() -> list[str]:
    """What `make` installs: the package, the extras of CI, and the packages that the Makefile names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [one for extra in ("data", "fast", "onnx", "tensorboard", "dev") for one in extras[extra]]
    installs = re.findall(r"^\t\$\(PIP\) (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named += [w for line in installs for w in line.split() if re.fullmatch(r"[\w-]+", w) and w[0] != "-"]
    return [*project["dependencies"], *(one for one in named if not one.startswith("tapetum"))]


def alone() -> list[str]:
    """What it installs without that on which it stands."""
    found = re.findall(r"^\t\$\(PIP\) --no-deps (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return [word for line in found for word in line.split()]


def floating(wanted: list[str], known: dict[str, str]) -> list[str]:
    """What is asked for, or stands below that and is installed, without a version of its own."""
    direct = {sbom.plain(re.match(r"[\w.-]+", one)[0]) for one in wanted}
    wanted = [one for one in wanted if one not in alone()]
    return sorted(
        n for n in direct | set(sbom.closure(wanted)) if n not in known and not BROUGHT.fullmatch(n)
    )


def test_every_package_that_ci_installs_has_its_version():
    assert floating(asked(), pins()) == []


def test_a_package_that_floats_is_found():
    known = pins()
    del known["markdown-it-py"]  # below rich
    assert floating(asked(), known) == ["markdown-it-py"]
    assert floating([*asked(), "left-pad>=1"], pins()) == ["left-pad"]


def test_what_builds_packages_is_pinned_too():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert floating(build, pins()) == []
    text = (ROOT / "Makefile").read_text()
    assert "export PIP_CONSTRAINT := constraints.txt" in text and "-c constraints.txt" in text


def test_the_bill_of_materials_is_whole(tmp_path, capsys):
    sbom.main([str(tmp_path / "sbom.json"), "--extra", "data"])
    made = json.loads((tmp_path / "sbom.json").read_text())
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.5")
    if not made["components"]:
        pytest.skip("needs tapetum to be installed, not only on the path")
    names = {one["name"] for one in made["components"]}
    assert {"torch", "pillow", "safetensors", "pyarrow"} <= names
    refs = {one["bom-ref"] for one in made["components"]} | {made["metadata"]["component"]["bom-ref"]}
    assert len(refs) == len(made["components"]) + 1
    assert all({row["ref"], *row["dependsOn"]} <= refs for row in made["dependencies"])
    assert all(one["purl"].startswith("pkg:pypi/") and one["version"] for one in made["components"])


def test_what_asks_for_what_is_followed():
    found = sbom.closure(["rich"])
    assert {"rich", "markdown-it-py", "mdurl", "pygments"} == set(found) and "pygments" in found["rich"][1]
