# Two commands do everything: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FIRMWARE := firmware_bridge/firmware
FUZZ_SECONDS ?= 600

.PHONY: demo test check bench soak fuzz fuzz-node fuzz-decoder default-bundles clean \
  packages-test packages-demo packages-fuzz

demo: $(VENV)/demo.stamp
	@$(BIN)/edge-agent demo

test: packages-test $(VENV)/dev.stamp check
	$(BIN)/python -m pytest -m "not alone" -n 2 --dist loadfile
	$(BIN)/python -m pytest -m alone

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: packages-test $(VENV)/dev.stamp
	$(BIN)/python -m tests.benchmarks

# A day of four boards through the live loop, as fast as it is read: memory, descriptors, losses.
soak: packages-test $(VENV)/dev.stamp
	$(BIN)/python -m tests.soak

# Both decoders under a coverage-guided fuzzer, FUZZ_SECONDS each; `make -j2 fuzz` does both at once.
fuzz: fuzz-node fuzz-decoder

fuzz-node: packages-fuzz
	$(MAKE) -C $(FIRMWARE) fuzz
	$(PYTHON) -m zipfile -e tests/fuzz/node.zip build/fuzz/node
	build/firmware/fuzz_node -max_total_time=$(FUZZ_SECONDS) -max_len=2048 -print_final_stats=1 \
	  -artifact_prefix=build/fuzz/ build/fuzz/node

fuzz-decoder: $(VENV)/dev.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	$(PYTHON) -m zipfile -e tests/fuzz/decoder.zip build/fuzz/decoder
	$(BIN)/python -m tests.fuzz.decoder -max_total_time=$(FUZZ_SECONDS) -max_len=2048 \
	  -print_final_stats=1 -artifact_prefix=build/fuzz/ build/fuzz/decoder

default-bundles: $(VENV)/dev.stamp
	$(BIN)/edge-converter default-bundles --out edge_agent/default_bundle

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# What pip can't bring. As root it is installed; otherwise the one line to run is printed.
packages-demo:
	@sh tests/packages.sh $(PYTHON) python3-venv

packages-test:
	@sh tests/packages.sh $(PYTHON) python3-venv mosquitto mosquitto-clients systemd \
	  gcc libc6-dev gcc-arm-none-eabi qemu-system-arm influxdb

packages-fuzz:
	@sh tests/packages.sh $(PYTHON) python3-venv clang libc6-dev

$(BIN)/pip: | packages-demo
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp
