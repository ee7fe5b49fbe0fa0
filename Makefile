# make pose VIDEO=x.mp4   poses and tracks of a video: x.poses.jsonl and x.poses.mp4 beside it
# make test               the tests, except the slow ones
# make test-all           all tests
# make lint               ruff and pyright
# make docs               the documentation, docs/build/html/index.html, with its links checked
# make release            a wheel in dist/ and the tag of the version in dimofs/__init__.py
#
# Each makes .venv and installs what it needs first. ARGS passes further options on.
#
# TORCH=cpu               PyTorch without CUDA: 0.2 GB to download, 1.1 GB installed with all else (default without a GPU)
# TORCH=cuda              PyTorch as pip installs it: on Linux for NVIDIA GPUs, 3 GB to download, 5.7 GB installed
# TORCH=torch==2.9.1      what you name

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Modules are compiled when they are first imported, not all of them while they are installed.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile
CPU_OPTIONS := --retries 1 --timeout 10 --extra-index-url https://download.pytorch.org/whl/cpu
TORCH ?= $(shell command -v nvidia-smi >/dev/null || command -v rocminfo >/dev/null && echo cuda || echo cpu)
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' dimofs/__init__.py)

.PHONY: help pose test test-all lint docs release clean
.DEFAULT_GOAL := help

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

# Without a video nothing is installed.
pose: $(if $(VIDEO),$(VENV)/installed)
	@test -n "$(VIDEO)" || { echo "usage: make pose VIDEO=x.mp4" >&2; exit 2; }
	$(BIN)/dimofs pose --video "$(VIDEO)" $(ARGS)

test: $(VENV)/developed
	$(BIN)/python -m pytest $(ARGS)

test-all: $(VENV)/developed
	$(BIN)/python -m pytest -m "" $(ARGS)

lint: $(VENV)/developed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

docs: $(VENV)/developed
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/build/html
	@echo "docs/build/html/index.html"

release: $(VENV)/developed
	@git diff --quiet HEAD || { echo "commit first: a release is what the last commit holds" >&2; exit 2; }
	@grep -q "^## $(VERSION) (20" CHANGELOG.md || { echo "CHANGELOG.md: give $(VERSION) its date" >&2; exit 2; }
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	git tag --annotate v$(VERSION) --message "dimofs $(VERSION)"
	@ls dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Builds without CUDA end in +cpu. PyTorch's own index has them, and other indexes of pip may.
$(VENV)/torch: | $(BIN)/python
ifeq ($(TORCH),cpu)
	@echo "installing PyTorch without CUDA: 0.2 GB to download, 1.1 GB installed; make TORCH=cuda takes the one for GPUs"
	@found=$$($(BIN)/python -m pip index versions torch $(CPU_OPTIONS) 2>/dev/null | grep -o '[0-9.]*+cpu' | head -1); \
	test -n "$$found" || echo "no build without CUDA is offered, so pip's is taken" >&2; \
	$(INSTALL) $(CPU_OPTIONS) "torch$${found:+==$$found}"
else ifeq ($(TORCH),cuda)
	@echo "installing PyTorch: on Linux 3 GB to download, 5.7 GB installed; make TORCH=cpu takes a fifth of it, without CUDA"
	$(INSTALL) torch
else
	$(INSTALL) "$(TORCH)"
endif
	touch $@

$(VENV)/installed: pyproject.toml $(VENV)/torch
	$(INSTALL) -e .
	touch $@

# torchvision must fit torch, and pip's index has it for pip's torch only.
$(VENV)/developed: pyproject.toml | $(BIN)/python
	@echo "installing PyTorch, tools and peers for development: on Linux 3 GB to download, 6.3 GB installed"
	$(INSTALL) --progress-bar off --upgrade torch torchvision
	$(INSTALL) --progress-bar off -e '.[dev]'
	touch $@ $(VENV)/torch $(VENV)/installed

clean:
	rm -rf $(VENV) build dist docs/build *.egg-info
