# make demo | test | lint | bench | clean. Each starts from nothing but Python >= 3.10 and make; a second run installs nothing.
#   make demo ARGS="--quick"      make test PYTEST_ARGS="-k folding" WORKERS=4      make demo PYTHON=python3.12 VENV=.venv-3.12

PYTHON ?= python3
VENV ?= .venv
OUT ?= out/demo
WORKERS ?= 2
BIN := $(VENV)/bin
INSTALLED := build/$(notdir $(VENV)).installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)
SOURCES := $(sort $(wildcard sdk/*.py sdk/*/*.py exporters/*.py exporters/*/*.py runtimes/*.py runtimes/*/*.py))

# OpenMP threads that spin make torch several times slower as soon as another process wants the core.
export OMP_WAIT_POLICY := passive
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test lint bench install clean distclean FORCE
.DELETE_ON_ERROR:

demo: install
	$(BIN)/edgefold demo --out $(OUT) --overwrite $(ARGS)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not gpu and not tensorrt and not jetson" -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p edgefold

bench: install
	$(BIN)/pytest tests/benchmarks -o python_files='bench_*.py' -s $(ARGS)

install: $(INSTALLED)

clean:
	rm -rf out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find sdk exporters runtimes tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# The editable install is a tree of links below build/, so both go together.
distclean: clean
	rm -rf $(VENV) build

# torch is asked for by its exact version and first: a looser request may bring gigabytes of CUDA packages.
$(VENV)/.dependencies: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("edgefold needs Python >= 3.10, $(PYTHON) is " + sys.version.split()[0] + "; use make PYTHON=...")'
	@echo "Installing edgefold and what it needs into $(VENV) (once; a few minutes)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt setuptools
	$(PIP) install -c constraints.txt $(TORCH)
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[all,dev]'
	@touch $@

# The links of the strict editable install are made per file: a new or removed file makes them anew.
$(INSTALLED): $(VENV)/.dependencies $(VENV)/.sources
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.sources: FORCE | $(VENV)/.dependencies
	@echo '$(SOURCES)' | cmp --silent - $@ || echo '$(SOURCES)' > $@
