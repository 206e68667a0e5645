# make demo   RL narrows on countdown and expands on carry, in one picture     make test   everything the tests need, then the tests
# make bench  speed on this machine, as ratios                                make lint   ruff
PYTHON ?= python3
SEED ?= 0
SCALE ?= quick
BIN := .venv/bin
DEMO := demo$(if $(filter-out 0,$(SEED)),-seed$(SEED))

.PHONY: demo paper test lint bench clean
.DELETE_ON_ERROR:

# Dependencies are declared in pyproject.toml; constraints.txt pins the torch that these targets were tested with.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed: make PYTHON=python3.12 …"; exit 2; }
	@echo "installing into .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-tests: .venv/installed
	@echo "installing what the tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

# A stopped demo goes on where its checkpoints are; a finished run is not done again, only sampled.
resume = $(if $(wildcard runs/$(1)/checkpoint.pt),--resume)
demo: .venv/installed
	$(BIN)/python pretrain.py --run runs/$(DEMO)/base --seed $(SEED) $(call resume,$(DEMO)/base)
	$(BIN)/python grpo.py --base runs/$(DEMO)/base --run runs/$(DEMO)/grpo --seed $(SEED) $(call resume,$(DEMO)/grpo)
	$(BIN)/python pretrain.py --task carry --run runs/$(DEMO)/carry/base --seed $(SEED) $(call resume,$(DEMO)/carry/base)
	$(BIN)/python prorl.py --steps 40 --base runs/$(DEMO)/carry/base --run runs/$(DEMO)/carry/prorl --seed $(SEED) $(call resume,$(DEMO)/carry/prorl)
	$(BIN)/python passk.py runs/$(DEMO)/base runs/$(DEMO)/grpo --out results/$(DEMO) --seed $(SEED)
	$(BIN)/python passk.py runs/$(DEMO)/carry/base runs/$(DEMO)/carry/prorl --task carry --problems 100 --append --out results/$(DEMO) --seed $(SEED)

test: .venv/installed-tests
	$(BIN)/python -m pytest -q

lint: .venv/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Every figure and table of both papers, with verdicts: RESULTS.md. A stopped run goes on; SCALE=full for three seeds: a GPU, or a night.
paper: .venv/installed
	$(BIN)/python paper.py --scale $(SCALE)

bench: .venv/installed
	$(BIN)/python bench.py

clean:
	rm -rf .venv build *.egg-info .pytest_cache .hypothesis .ruff_cache
