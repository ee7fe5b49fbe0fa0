# make pose VIDEO=x.mp4   poses and tracks of a video: x.poses.jsonl and x.poses.mp4 beside it
# make test               the tests, except the slow ones
# make test-all           all tests
# make lint               ruff and pyright
# Each makes .venv and installs what it needs first. ARGS passes further options on.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: pose test test-all lint clean

pose: $(VENV)/installed
	@test -n "$(VIDEO)" || { echo "usage: make pose VIDEO=x.mp4" >&2; exit 2; }
	$(BIN)/python -m dimofs.zoo.pose --video "$(VIDEO)" $(ARGS)

test: $(VENV)/developed
	$(BIN)/python -m pytest $(ARGS)

test-all: $(VENV)/developed
	$(BIN)/python -m pytest -m "" $(ARGS)

lint: $(VENV)/developed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/developed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build dist *.egg-info
