# make demo   quantize, convert and run a trained network; prints a table, writes a picture
# make test   everything that guards a change (15 minutes on two cores)
# make test-all   also the slow tests, stand-ins for other machines, sanitizers, a minute of each fuzz target and the aarch64 build under qemu
# make fuzz   every fuzz target for MINUTES (default 10) each; what it finds and its inputs go to build/fuzz
# make mutation   every check of the validator disabled in turn: some test must notice
# make bench  benchmarks (on a quiet machine)
# make peers  a race against other engines, installed into .venv (on a quiet machine; PEERS="--models resnet18 --threads 1,2")
# make docs   the documentation as a site, in build/site
# make lint   ruff, mypy, import rules, clang-format
# Each target installs what it needs: Debian packages (with root or sudo) and Python packages in .venv.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= $(shell nproc)
CXX_BUILD := build/cxx
AARCH64_BUILD := build/aarch64

FONTS := fonts-dejavu-core fonts-liberation2 fonts-freefont-ttf fonts-lato fonts-roboto-unhinted fonts-cantarell fonts-open-sans fonts-linuxlibertine
BUILD_PACKAGES := clang-19 lld-19 ninja-build cmake nlohmann-json3-dev libcli11-dev python3-dev python3-venv
TEST_PACKAGES := g++ libgtest-dev libbenchmark-dev llvm-19 binutils
ALL_PACKAGES := g++-aarch64-linux-gnu qemu-user-static libclang-rt-19-dev
LINT_PACKAGES := clang-format-19

export CC := $(shell command -v clang-19 || echo clang-19)
export CXX := $(shell command -v clang++-19 || echo clang++-19)
export CMAKE_GENERATOR := Ninja

# One tree, CXX_BUILD, holds the package, the tests and the benchmarks, so that every object is compiled once: pip builds what a wheel
# holds (pyproject.toml, tool.scikit-build), `make cxx` the rest. Both must compile with the same flags.
PACKAGE_FLAGS := -C cmake.define.PYQINFER_WERROR=ON

.PHONY: demo test test-all fuzz mutation bench peers docs lint format clean cxx python aarch64 packages-build packages-test packages-all packages-lint

demo: python
	$(BIN)/pyqinfer demo

# A worker takes a whole file of tests (loadfile), so that what a file prepares is prepared once.
test: packages-test cxx
	ctest --test-dir $(CXX_BUILD) --output-on-failure --no-tests=error -j $(JOBS)
	$(BIN)/pytest -m "not slow" -n $(JOBS) --dist loadfile

test-all: test packages-all lint aarch64
	ctest --test-dir $(AARCH64_BUILD) --output-on-failure --no-tests=error -j $(JOBS)
	PQINFER_ACCURACY_STEP=1 ctest --test-dir $(CXX_BUILD) --output-on-failure --no-tests=error -R AccuracyTest
	$(BIN)/pytest -m slow
	.ci/other-machines $(JOBS)
	.ci/sanitizers $(JOBS)

# Every check of the validator disabled, one at a time: half an hour on two cores.
mutation: packages-test
	$(PYTHON) tests/mutation_check.py --jobs $(JOBS)

MINUTES := 10
fuzz: packages-all python
	.ci/fuzz $(JOBS) $$(($(MINUTES) * 60))

aarch64: packages-all
	CC= CXX= cmake -S . -B $(AARCH64_BUILD) -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DPYQINFER_BUILD_TESTS=ON -DPYQINFER_WERROR=ON
	cmake --build $(AARCH64_BUILD) -j $(JOBS)

bench: packages-test python
	cmake -S . -B $(CXX_BUILD) -DPYQINFER_BUILD_BENCH=ON
	cmake --build $(CXX_BUILD) -j $(JOBS)
	$(BIN)/pytest benchmarks --benchmark-only --benchmark-columns=median,iqr,rounds

PEERS := --threads 1,2
peers: $(VENV)/.peers python
	$(BIN)/python -m benchmarks.peers $(PEERS) --json build/peers/results.json

$(VENV)/.peers: pyproject.toml | $(VENV)/.dependencies
	$(BIN)/pip install -q -c constraints.txt $$($(PYTHON) .ci/requirements.py peers)
	touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.docs: pyproject.toml | $(VENV)/.dependencies
	$(BIN)/pip install -q -c constraints.txt $$($(PYTHON) .ci/requirements.py docs)
	touch $@

lint: packages-lint python
	$(BIN)/ruff check pyqinfer tests benchmarks examples
	$(BIN)/ruff format --check pyqinfer tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/check_includes.py
	git ls-files 'csrc/*.cc' 'csrc/*.h' 'csrc/*.hpp' 'csrc/*.inc' 'examples/*.cpp' 'examples/*.c' | xargs clang-format-19 --dry-run --Werror

format: packages-lint python
	$(BIN)/ruff check --fix pyqinfer tests benchmarks examples
	$(BIN)/ruff format pyqinfer tests benchmarks examples
	git ls-files 'csrc/*.cc' 'csrc/*.h' 'csrc/*.hpp' 'csrc/*.inc' 'examples/*.cpp' 'examples/*.c' | xargs clang-format-19 -i

cxx: packages-test python
	cmake -S . -B $(CXX_BUILD) -DPYQINFER_BUILD_TESTS=ON
	cmake --build $(CXX_BUILD) -j $(JOBS)

# The package, editable: Python files are used in place; a changed C++ source is compiled again, and what is linked from it installed.
# Sources of tests and benchmarks are no part of it.
SOURCES := $(shell git ls-files csrc cmake CMakeLists.txt pyproject.toml ':!csrc/tests/*.cc' ':!csrc/tests/*.h' ':!csrc/bench' 2>/dev/null)
python: $(VENV)/.installed
$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	$(BIN)/pip install -q --no-build-isolation --no-deps $(PACKAGE_FLAGS) -e .
	touch $@

$(VENV)/.dependencies: pyproject.toml constraints.txt | packages-build
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	@echo "Installing Python packages (torch is large: this takes minutes)"
	$(BIN)/pip install -q torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt $$($(PYTHON) .ci/requirements.py)
	touch $@

packages-build:
	@.ci/system-packages $(BUILD_PACKAGES) $(FONTS)
packages-test: packages-build
	@.ci/system-packages $(TEST_PACKAGES)
packages-all:
	@.ci/system-packages $(ALL_PACKAGES)
packages-lint: packages-build
	@.ci/system-packages $(LINT_PACKAGES)

clean:
	rm -rf build dist demo-output $(VENV)/.installed
