# Two commands do everything: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := firmware_bridge edge_agent converter

.PHONY: demo test check bench default-bundles clean packages-test packages-demo

demo: $(VENV)/demo.stamp
	@$(BIN)/edge-agent demo

test: packages-test $(VENV)/dev.stamp check
	$(BIN)/python -m pytest

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: packages-test $(VENV)/dev.stamp
	$(BIN)/python -m tests.benchmarks

default-bundles: $(VENV)/dev.stamp
	$(BIN)/edge-converter default-bundles --out edge_agent/default_bundle

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# What pip can't bring. As root it is installed; otherwise the one line to run is printed.
packages-demo:
	@sh tests/packages.sh $(PYTHON) python3-venv

packages-test:
	@sh tests/packages.sh $(PYTHON) python3-venv mosquitto mosquitto-clients systemd

$(BIN)/pip: | packages-demo
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp
