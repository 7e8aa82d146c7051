# Every target needs Python 3.11 to 3.14 and make, nothing else: the first run creates .venv from constraints.txt.

# A newer Python is refused: there are no wheels for it at the pinned versions, and pip would try to compile them.
SUPPORTED := (3, 11) <= sys.version_info < (3, 15)
PYTHON ?= $(shell for python in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(not $(SUPPORTED))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
INSTALLED := .venv/.installed

# 1 compares what each lesson prints with its stored outputs. Only the reference machine (Linux, see .ci/run) promises
# the same digits, so a learner's machine runs the lessons without comparing.
MLOPS_COMPARE ?= 0
NBVAL := $(if $(filter 1,$(MLOPS_COMPARE)),--nbval,--nbval-lax)

# One process a core, each with whole files, as the cells of a lesson share a kernel; lessons first, as they take longest
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

unexport PYTHONDONTWRITEBYTECODE  # where it is set, each of many processes would compile the package anew

.DEFAULT_GOAL := help
.PHONY: help demo test test-long course lint lessons exercises index drawing slides constraints clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

demo: $(INSTALLED)  ## run the whole loop once: train, release, serve, watch, retrain, roll back
	$(BIN)/mlops-course demo

test: lint  ## check style, then run every lesson, every solution and the quick tests
	$(PYTEST) -m "not long" $(NBVAL)

test-long: $(INSTALLED)  ## run the series that need minutes: kills, generated requests, edits of solutions, a full classroom
	$(PYTEST) -m long

course: $(INSTALLED)  ## open JupyterLab on the first lesson
	$(BIN)/jupyter lab --LabApp.news_url=None notebooks/00_start_here.ipynb

lint: $(INSTALLED)  ## check style only
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet

lessons: $(INSTALLED)  ## run every lesson in a clean kernel and store its outputs
	$(BIN)/python tools/notebooks.py render

exercises: $(INSTALLED)  ## derive every exercise from its solution
	$(BIN)/python tools/notebooks.py derive

index: $(INSTALLED)  ## write notebooks/README.md from the lessons and tools/course.yaml
	$(BIN)/python tools/course.py

drawing: $(INSTALLED)  ## draw in CONTRIBUTING.md which folder imports which
	$(BIN)/python tools/drawing.py

slides: $(INSTALLED)  ## make slides of all lessons in build/slides
	$(BIN)/python tools/slides.py

constraints: $(INSTALLED)  ## pin the newest release of everything, for every supported Python and system
	$(BIN)/python -m venv build/uv
	build/uv/$(notdir $(BIN))/python -m pip install --quiet --disable-pip-version-check uv
	build/uv/$(notdir $(BIN))/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras \
		--fork-strategy fewest --no-annotate --no-header pyproject.toml --output-file constraints.txt

clean:  ## remove the environment and everything built (the course's own state is .mlops: mlops-course reset)
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.14 found. Install one, or say where it is: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; came = sys.version.split()[0]; sys.exit(None if $(SUPPORTED) else \
		"Python 3.11 to 3.14 is needed, %s came from PYTHON=$(PYTHON). Install one, or say where it is: make PYTHON=..." % came)'
	@echo "Installing into .venv with $(PYTHON). This takes a minute or two, once."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(INSTALLED)
