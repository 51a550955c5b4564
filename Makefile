# `make help` lists the targets. Each makes its own environment under .venv; nothing else is needed than Python.
PYTHON ?= python3
DEMO := .venv/demo
CHECK := .venv/check
DEV := .venv/test
INSTALL := install --quiet --disable-pip-version-check

.PHONY: demo check test lint clean help
.DELETE_ON_ERROR:

demo: $(DEMO)/ready demo/slices ## segment a dozen drawn slices: demo/out/index.html (plain `make` does this)
	$(DEMO)/bin/edge-seg demo/slices -o demo/out

demo/slices: | $(DEMO)/ready
	$(DEMO)/bin/python -m reference draw --demo 12 $@

check: $(CHECK)/ready ## lint, types, and the tests without TensorFlow, a browser or a long wait: two minutes
	$(CHECK)/bin/ruff check .
	$(CHECK)/bin/ruff format --check .
	$(CHECK)/bin/mypy
	$(CHECK)/bin/python -m pytest --quiet -m 'not slow' --ignore-glob '*_browser.py' \
		--numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(DEV)/ready ## all tests
	$(DEV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(DEV)/ready ## lint and types alone, with all packages installed
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy

# The device's dependencies alone: NumPy, OpenCV and one interpreter.
$(DEMO)/ready: pyproject.toml $(shell find edge_runtime -type f -not -name '*.pyc')
	$(PYTHON) -m venv --clear $(DEMO)
	rm -rf build
	$(DEMO)/bin/pip $(INSTALL) .
	@touch $@

$(CHECK)/ready: pyproject.toml
	$(PYTHON) -m venv --clear $(CHECK)
	$(CHECK)/bin/pip $(INSTALL) --editable '.[check]'
	@touch $@

$(DEV)/ready: pyproject.toml
	$(PYTHON) -m venv --clear $(DEV)
	$(DEV)/bin/pip $(INSTALL) --editable '.[dev]'
	@touch $@

clean: ## remove the environments, the demo and what builds leave behind
	rm -rf .venv demo build dist *.egg-info

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 8
