# Everything is installed into .venv, with the versions of constraints.txt; nothing else is needed than Python >= 3.10.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
# a process for each core, and a file of tests at a time; others, as in: make test PYTEST="-k vector"
PYTEST ?= --numprocesses=auto --dist=loadfile

.PHONY: demo test check lowest format benchmark clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: .venv/installed  ## train one PPO agent on three families at once, score it on each, draw it
	rm -rf runs/demo
	$(BIN)/python -m agents.train --env MetaLearn/Mixture-v0 --steps 4_000_000 --validate-every 500_000 --out runs/demo
	$(BIN)/python -m agents.evaluate runs/demo --controllers do-nothing random-steps tuned-constant tuned-decay \
		oracle-constant bb1 dai-yuan best-rule-per-task limit \
		--json runs/demo/score.json --plot runs/demo/training.png --episode runs/demo/episode.png

test: .venv/installed  ## run every test
	$(BIN)/python -m pytest $(PYTEST)

check: .venv/installed  ## what CI runs: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PYTEST)

lowest:  ## run every test with the lowest versions allowed, in .venv-lowest (make lowest PYTHON=python3.10)
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --constraint constraints-lowest.txt --editable ".[agents,data]" \
		pytest build hatchling scipy pyparsing
	.venv-lowest/bin/python -m pytest

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: .venv/installed  ## speed, memory, scores, controls, rules and schedules, written to docs/results
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.scores
	$(BIN)/python -m benchmarks.controls
	$(BIN)/python -m benchmarks.rules
	$(BIN)/python -m benchmarks.variants
	$(BIN)/python -m benchmarks.schedules
	$(BIN)/python -m benchmarks.beforehand
	$(BIN)/python -m benchmarks.policies --out docs/results/policies_speed.md

clean:
	rm -rf .venv .venv-lowest runs dist
