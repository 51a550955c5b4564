# make demo · make test · make lint: each makes its own environment under .venv; nothing else is needed than Python.
PYTHON ?= python3
DEMO := .venv/demo
DEV := .venv/test

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

demo: $(DEMO)/ready demo/slices
	$(DEMO)/bin/edge-seg demo/slices -o demo/out

demo/slices: | $(DEMO)/ready
	$(DEMO)/bin/python -m reference draw --demo 12 $@

test: $(DEV)/ready
	$(DEV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(DEV)/ready
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy

# The device's dependencies alone: NumPy, OpenCV and one interpreter.
$(DEMO)/ready: pyproject.toml $(wildcard edge_runtime/*.* edge_runtime/*/*.*)
	$(PYTHON) -m venv --clear $(DEMO)
	rm -rf build
	$(DEMO)/bin/pip install --quiet --disable-pip-version-check .
	@touch $@

$(DEV)/ready: pyproject.toml
	$(PYTHON) -m venv --clear $(DEV)
	$(DEV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv demo build dist *.egg-info
