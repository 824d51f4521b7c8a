# driverun. `make` alone lists what there is.

VENV := .venv
PYTHON_IN := $(VENV)/bin/python
READY := $(VENV)/.ready
COLAB := ../shared/colab

# As many tests at once as there are cores; each may hold a TensorFlow, so not more than four.
AT_ONCE := -n auto --maxprocesses 4 --dist worksteal

.PHONY: help demo test check colab notebook bench clean
help:
	@echo 'make demo                 train jobs/digits through three power cuts, compare with an untouched run'
	@echo 'make test                 run the tests                (ARGS="-k resume -x" goes to pytest, ARGS="-n 0" one after the other)'
	@echo 'make check                ruff, mypy --strict'
	@echo 'make colab                driverun among the packages of Colab: nothing changes, tests pass (constraints in $(COLAB))'
	@echo 'make notebook             write notebooks/driverun.ipynb anew, from its source in the package'
	@echo 'make bench BENCH=<name>   run benchmarks/<name>.py     (ARGS="..." goes to it)'
	@echo 'make clean                remove the environment, the caches and the root of the demo'
	@echo 'PYTHON=python3.12 make …  use this interpreter for the environment'

# One environment serves every target: TensorFlow is nearly all of it, and each of them needs that.
$(READY): pyproject.toml .ci/venv
	@.ci/venv $(VENV) --editable ".[dev]"
	@touch $@

demo: $(READY)
	rm -rf demo-root
	$(PYTHON_IN) -m driverun drill jobs/digits --kills 3 --keep demo-root

test: $(READY)
	$(PYTHON_IN) -m pytest $(AT_ONCE) $(ARGS)

check: $(READY)
	$(PYTHON_IN) -m ruff check .
	$(PYTHON_IN) -m ruff format --check .
	$(PYTHON_IN) -m mypy --strict

# One image after the other, some three minutes each. A Python or constraints that are not here are said loudly, and passed over.
colab: $(READY)
	$(PYTHON_IN) .ci/colab.py --constraints '$(COLAB)' $(ARGS)

notebook: $(READY)
	$(PYTHON_IN) -m driverun.launchers.notebook > notebooks/driverun.ipynb

bench: $(READY)
	@test -f 'benchmarks/$(BENCH).py' || { \
	    echo 'make bench BENCH=<name>, where <name> is one of:' >&2; \
	    ls benchmarks 2>/dev/null | sed -n 's/\.py$$//p' >&2; exit 2; }
	$(PYTHON_IN) -P benchmarks/$(BENCH).py $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist demo-root
	find driverun tests jobs benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
