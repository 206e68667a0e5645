# make demo   both stories in one picture: RL narrows on countdown and expands on carry
# make test   everything the tests need, then the tests
# make lint   ruff, and the direction of imports
# make book   the annotated pages: book/site/index.html       make test-book  their tests, in a browser
# make paper  the claims of both papers into RESULTS.md       make bench  speed on this machine
PYTHON ?= python3
SEED ?= 0
SCALE ?= quick
BIN := .venv/bin
DEMO := demo$(if $(filter-out 0,$(SEED)),-seed$(SEED))
RUNS := runs/$(DEMO)
RESULTS := results/$(DEMO)

.PHONY: demo paper test lint bench book test-book clean
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

# An interrupted demo resumes from its checkpoints. A finished run is only sampled again.
resume = $(if $(wildcard $(1)/checkpoint.pt),--resume)
run = --run $(RUNS)/$(1) --seed $(SEED) $(call resume,$(RUNS)/$(1))
demo: .venv/installed
	$(BIN)/python pretrain.py $(call run,base)
	$(BIN)/python grpo.py --base $(RUNS)/base $(call run,grpo)
	$(BIN)/python passk.py $(RUNS)/base $(RUNS)/grpo --out $(RESULTS)/countdown --seed $(SEED)
	$(BIN)/python pretrain.py --task carry $(call run,base-carry)
	$(BIN)/python prorl.py --steps 40 --base $(RUNS)/base-carry $(call run,prorl)
	$(BIN)/python passk.py $(RUNS)/base-carry $(RUNS)/prorl --task carry --problems 100 \
		--out $(RESULTS)/carry --seed $(SEED)
	$(BIN)/python -m tools.panels $(RESULTS)/countdown $(RESULTS)/carry --out $(RESULTS)/passk.png

test: .venv/installed-tests
	$(BIN)/python -m pytest -q -n 2

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
