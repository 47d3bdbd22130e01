# Two commands do everything: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FIRMWARE := firmware_bridge/firmware
FUZZ_SECONDS ?= 600

.PHONY: demo test check bench chaos soak fuzz fuzz-node fuzz-decoder default-bundles clean dist arm64 \
  booted booted-vm packages-booted packages-booted-vm \
  packages-test packages-demo packages-fuzz packages-arm64

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

# What happens to gateways in the field, done to one, for half an hour; 1 if anything is lost.
chaos: packages-test $(VENV)/dev.stamp
	$(BIN)/python -m tests.chaos

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

# The unit under a real systemd, in namespaces of its own; as root, half a minute once the Debian of
# build/booted is there. booted-vm: a virtual machine, its clock, its USB port and a power cut.
booted: packages-booted $(VENV)/dev.stamp
	$(BIN)/python -m tests.booted

booted-vm: packages-booted-vm $(VENV)/dev.stamp
	$(BIN)/python -m tests.booted vm

default-bundles: $(VENV)/dev.stamp
	$(BIN)/edge-converter default-bundles --out edge_agent/default_bundle
	$(BIN)/edge-agent selftest --write edge_agent/default_bundle/golden.json

# One archive that installs without a network. PLATFORM=x86_64 for PCs, KEY=signing.key signs it.
PLATFORM ?= aarch64
dist: $(VENV)/dev.stamp
	$(BIN)/python systemd/dist.py --platform $(PLATFORM) $(if $(KEY),--key $(KEY))

# That archive, installed in Debian 12 and 13 for 64-bit Arm under emulation; as root.
arm64: packages-arm64 dist
	$(BIN)/python -m tests.arm64

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# What pip can't bring. As root it is installed; otherwise the one line to run is printed.
packages-demo:
	@sh tests/packages.sh $(PYTHON) python3-venv

packages-test:
	@sh tests/packages.sh $(PYTHON) python3-venv mosquitto mosquitto-clients systemd \
	  gcc libc6-dev gcc-arm-none-eabi qemu-system-arm influxdb strace tmux chromium

packages-arm64:
	@sh tests/packages.sh $(PYTHON) python3-venv mmdebstrap qemu-user-static

packages-booted:
	@sh tests/packages.sh $(PYTHON) python3-venv mmdebstrap mosquitto mosquitto-clients

packages-booted-vm: packages-booted
	@sh tests/packages.sh $(PYTHON) qemu-system-x86

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
