# make demo   all stories in one picture: RL narrows on countdown and expands on carry
# make test   everything the tests need, then the tests (DEVICE=cuda: there)
# make zoo    every bug of course/zoo planted, one after the other: a test must catch each
# make test-course   the homework kit      make test-assignments   every assignment, graded
# make lint   ruff, and the direction of imports
# make test-bridges   TRL trains on our task      make test-notebook   the tour runs at toy size
# make book   the annotated pages, book/site/index.html    make test-book   their tests in a browser
# make paper  the claims of both papers into RESULTS.md       make bench  speed on this machine
# make bases  the two base models in bases/, anew
PYTHON ?= python3
SEED ?= 0
SCALE ?= quick
DEVICE ?= cpu
BIN := .venv/bin

.PHONY: demo bases paper test lint bench clean zoo test-course test-assignments test-bridges \
	test-notebook notebook book test-book
.DELETE_ON_ERROR:

# Dependencies are declared in pyproject.toml. constraints.txt pins the torch of these targets.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed: make PYTHON=python3.12 …"; exit 2; }
	@echo "installing into .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-tests: .venv/installed
	@echo "installing what the tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

# An interrupted demo resumes from its checkpoints. BASE=scratch pretrains the bases too.
demo: .venv/installed
	$(BIN)/python -m tools.demo --seed $(SEED) $(if $(filter scratch,$(BASE)),--scratch)

bases: .venv/installed
	$(BIN)/python -m tools.bases

test: .venv/installed-tests
	TEST_DEVICE=$(DEVICE) $(BIN)/python -m pytest -q -n 2

zoo: .venv/installed-tests
	$(BIN)/python -m course zoo

test-course: .venv/installed-tests
	$(BIN)/python -m pytest -q -n 2 tests/course

test-assignments: .venv/installed-tests
	$(BIN)/python -m pytest -q -n 2 tests/course_matrix.py

# The libraries of the bridges and of the notebook are large, and only these targets need them.
.venv/installed-bridges: .venv/installed-tests
	@echo "installing TRL"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[bridges]'
	@touch $@

.venv/installed-notebook: .venv/installed-tests
	@echo "installing what the notebook needs"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[notebook]'
	@touch $@

test-bridges: .venv/installed-bridges
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q tests/bridges

test-notebook: .venv/installed-notebook
	$(BIN)/python -m pytest -q tests/notebooks

# The notebook is made from the file that one reads and edits.
notebook: .venv/installed-notebook
	$(BIN)/jupytext --to ipynb notebooks/tour.py

.venv/installed-book: .venv/installed
	@echo "installing what the book needs"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book]'
	@touch $@

.venv/installed-test-book: .venv/installed-tests .venv/installed-book
	@echo "installing what the tests of the book need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[test-book]'
	@touch $@

book: .venv/installed-book
	$(BIN)/python -m book

# They need a Chromium, and say so if there is none.
test-book: .venv/installed-test-book book
	$(BIN)/python -m pytest -q -n 2 tests/book

lint: .venv/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tools.arrows

# Every figure and table of both papers with verdicts: RESULTS.md. An interrupted run resumes.
# SCALE=full has three seeds and takes a night on two cores.
paper: .venv/installed
	$(BIN)/python -m paper --scale $(SCALE)

bench: .venv/installed
	$(BIN)/python -m tools.bench

clean:
	rm -rf .venv build *.egg-info .pytest_cache .hypothesis .ruff_cache
