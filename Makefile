# The front door: `make help` tells what there is. The work is done by CMake and by the scripts.
PREFIX  ?= /usr/local
DESTDIR ?=
JOBS    ?= $(shell nproc)
FUZZ_SECONDS ?= 30
PYTEST_ARGS  ?=
CTEST_ARGS   ?=
CYCLES       ?= 500

# Configurations of a distribution belong in /etc, not in /usr/etc.
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)

BUILD    := build/release
DIST     := build/dist
PROGRAMS := cli/bulkhead shim/containerd-shim-bulkhead-v2 agent/bulkhead-agent
# Debian's own, as pytest is: another may come first in PATH.
PYTHON   := /usr/bin/python3

MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.DEFAULT_GOAL := build

.PHONY: help
help:
	@echo 'make                    build the programs, the guest kernel and the guest image'
	@echo 'make run                install what is missing, build, start a first container in a VM'
	@echo 'make test               install what is missing, build, run every test'
	@echo
	@echo 'make deps               install the Debian packages that are missing (root)'
	@echo 'make kernel             the guest kernel: build/kernel (kept in ~/.cache/bulkhead)'
	@echo 'make dist               a complete tree to run from: $(DIST)'
	@echo 'make test-unit          the unit tests alone                    CTEST_ARGS="-R agent"'
	@echo 'make test-integration   the tests with real guests alone        PYTEST_ARGS="-k exec -x"'
	@echo 'make test-engines       the same below containerd               PYTEST_ARGS="-k cri"'
	@echo "make test-runc-shim     below containerd with runc's shim in place of ours"
	@echo 'make conformance        critest and the engines'"'"' tests below a newer containerd (needs Go)'
	@echo 'make test-oci           below Docker, Podman and buildah, beside runc   PYTEST_ARGS="--engine podman"'
	@echo 'make soak               CYCLES=$(CYCLES) containers one after another; what grows'
	@echo 'make asan | tsan        the unit tests under sanitizers'
	@echo 'make fuzz               each fuzzer for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo 'make format             rewrite the sources in the common style'
	@echo 'make lint               check the style, then clang-tidy (minutes)'
	@echo 'make bench              phases of a start beside a bare QEMU boot; memory of an idle VM'
	@echo 'make bench-files        files on each kind of root, beside runc'
	@echo 'make bench-network      streams and round trips, beside a bare QEMU and runc'
	@echo 'make install            PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)'
	@echo 'make uninstall          the same; an edited configuration stays'
	@echo 'make clean              remove build/'

# ---- build
.PHONY: build programs kernel guest-image everything dist
build: programs kernel guest-image

$(BUILD)/build.ninja:
	cmake --preset release

programs: $(BUILD)/build.ninja
	@cmake --build $(BUILD) --parallel $(JOBS) --target $(PROGRAMS)

kernel:
	@kernel-config/build

guest-image: build/guest.img
build/guest.img: $(BUILD)/agent/bulkhead-agent rootfs/build
	rootfs/build $< $@
# Made by `programs`, which always asks CMake; without a recipe make would not look at it again.
$(BUILD)/agent/bulkhead-agent: programs ;

# With the unit tests.
everything: $(BUILD)/build.ninja
	@cmake --build $(BUILD) --parallel $(JOBS)

dist: build
	@DESTDIR= cmake --install $(BUILD) --prefix $(CURDIR)/$(DIST)

# ---- run
.PHONY: deps deps-run run
deps:
	@scripts/install-deps

deps-run:
	@scripts/install-deps build run

run: deps-run dist
	@scripts/first-run $(DIST)/bin/bulkhead

# ---- test
.PHONY: test test-unit test-integration test-engines test-runc-shim test-oci conformance soak asan tsan fuzz lint format bench bench-files bench-network
test: deps everything dist
	@CTEST_ARGS='$(CTEST_ARGS)' PYTEST_ARGS='$(PYTEST_ARGS)' scripts/run-tests unit integration engines runc_shim oci_engines

test-unit: everything kernel
	@CTEST_ARGS='$(CTEST_ARGS)' scripts/run-tests unit

test-integration: dist
	@PYTEST_ARGS='$(PYTEST_ARGS)' scripts/run-tests integration

test-engines: dist
	@PYTEST_ARGS='$(PYTEST_ARGS)' scripts/run-tests engines

test-runc-shim: dist
	@PYTEST_ARGS='$(PYTEST_ARGS)' scripts/run-tests runc_shim

conformance: dist
	@JOBS=$(JOBS) PYTEST_ARGS='$(PYTEST_ARGS)' test/conformance/run

test-oci: dist
	@PYTEST_ARGS='$(PYTEST_ARGS)' scripts/run-tests oci_engines

soak: dist
	@$(PYTHON) -B test/engines/soak.py $(CYCLES)

# A guest boots only the static agent, so the tests in a VM are for the release build.
asan tsan:
	@test -e build/$@/build.ninja || cmake --preset $@
	@cmake --build build/$@ --parallel $(JOBS) --target unit_tests
	@TSAN_OPTIONS=suppressions=$(CURDIR)/test/tsan.supp \
	ctest --test-dir build/$@ --output-on-failure --parallel $(JOBS) -E '_vm$$' $(CTEST_ARGS)

fuzz:
	@test -e build/fuzz/build.ninja || cmake --preset fuzz
	@cmake --build build/fuzz --parallel $(JOBS) --target fuzzers
	@scripts/run-fuzzers build/fuzz $(FUZZ_SECONDS)

format:
	@scripts/lint --fix

lint: $(BUILD)/build.ninja
	@scripts/lint --format --tidy

bench: dist
	@$(PYTHON) bench/start --bulkhead $(DIST)/bin/bulkhead

bench-files: dist
	@$(PYTHON) bench/files

bench-network: dist
	@$(PYTHON) bench/network

# ---- install
.PHONY: install uninstall clean
install: build
	@DESTDIR='$(DESTDIR)' BULKHEAD_SYSCONFDIR='$(SYSCONFDIR)' \
	  cmake --install $(BUILD) --prefix '$(PREFIX)'

uninstall:
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' scripts/uninstall

clean:
	rm -rf build
