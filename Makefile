# Needs Python 3.11 or newer and pip; every target installs what it needs from the lock files, into .venv.
PYTHON ?= python3.11
ifeq (, $(shell command -v $(PYTHON)))
PYTHON := python3
endif
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: claims smoke-claims run test test-slow test-faults test-envs check lint types smoke bench bench-env bench-bonus bench-scale bench-checkpoint gallery notebooks notebook-results test-notebooks lock clean

run: $(VENV)/run.installed          ## the main job: does a bonus help on DeepSea-16, and how sure are we?
	$(BIN)/python experiments/deepsea_bonuses.py

test: $(VENV)/dev.installed         ## the fast tests
	$(BIN)/python -m pytest -n 2 -m "not slow and not envs and not faults and not claims"

test-slow: $(VENV)/dev.installed    ## learning tests
	$(BIN)/python -m pytest -m slow

test-faults: $(VENV)/dev.installed  ## kills, full disks, damage, races: what must never lose a result; some minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile -m faults tests/faults

test-envs: $(VENV)/dev.installed    ## the contract on every registered environment; goes on where it stopped; PIECE=1/4 for a part
	PIECE=$(PIECE) $(BIN)/python -m pytest -m envs tests/envs/test_all_envs.py

check: lint types test smoke        ## all that CI runs

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .

types: $(VENV)/dev.installed
	$(BIN)/mypy

smoke: $(VENV)/run.installed        ## the command line, end to end, small
	rm -rf results/smoke
	$(BIN)/jaxrl doctor
	$(BIN)/jaxrl train --env DeepSea-bsuite --env-args size=5 --bonus "0.5 * count + rnd" --seeds 2 --steps 8192 --evals 2 --out results/smoke
	$(BIN)/jaxrl report results/smoke
	$(BIN)/jaxrl evaluate results/smoke --episodes 4

bench: $(VENV)/dev.installed        ## every speed claim, beside its reference
	$(BIN)/python -m benchmarks.bench

bench-env: $(VENV)/dev.installed    ## environment steps per second, beside navix, xminigrid and gymnax
	$(BIN)/python -m benchmarks.bench_env

bench-bonus: $(VENV)/dev.installed  ## every bonus: speed, memory, beside a NumPy loop; ROWS="count e3b" for some
	$(BIN)/python -m benchmarks.bench_bonus $(if $(ROWS),--rows $(ROWS))

gallery: $(VENV)/run.installed      ## docs/gallery.png: every environment of our own
	$(BIN)/python experiments/gallery.py

notebooks: $(VENV)/dev.installed    ## every notebook's .ipynb from its .py, executed: outputs are kept in it
	$(BIN)/jupytext --quiet --update --to ipynb notebooks/[0-9]*.py
	$(BIN)/python -m pytest --nbmake --overwrite --nbmake-timeout=120 notebooks

test-notebooks: $(VENV)/dev.installed  ## every notebook as it was committed runs, and under a minute
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=60 notebooks

notebook-results: $(VENV)/dev.installed  ## what the notebooks load; a claim's part is copied from its run
	$(BIN)/python notebooks/make_results.py

bench-scale: $(VENV)/dev.installed  ## the same lanes on one, two and eight host devices
	$(BIN)/python -m benchmarks.bench_scale

bench-checkpoint: $(VENV)/dev.installed  ## the share of a run that checkpoints and logging take
	$(BIN)/python -m benchmarks.bench_checkpoint

claims: $(VENV)/dev.installed       ## the table of claims and verdicts in README.md, from experiments/records
	$(BIN)/python -m experiments.claims_table

smoke-claims: $(VENV)/dev.installed ## every claim, small, and its verdict on data that were made up
	$(BIN)/python -m pytest -n 2 -m "claims and not slow" tests/reproduce

lock: pyproject.toml                ## resolve again; needs uv
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --no-header pyproject.toml -o requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --no-header --extra dev --extra oracle pyproject.toml -c requirements.txt -o requirements-dev.txt

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/run.installed: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked requirements into $(VENV): once, a minute or two"
	$(PIP) --require-hashes --no-deps -r requirements.txt
	$(PIP) --no-deps -e .
	touch $@

$(VENV)/dev.installed: requirements-dev.txt $(VENV)/run.installed
	@echo "installing what tests need as well"
	$(PIP) --require-hashes --no-deps -r requirements-dev.txt
	touch $@
