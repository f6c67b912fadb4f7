# make demo and make test are the two commands of the README; both make the environment first.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin

.PHONY: env demo test test-slow bench lint clean

env: $(VENV)/.ready

# torch comes first and pinned: any looser spec may fetch gigabytes of GPU packages. Another build: make TORCH="torch==..." env
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade "setuptools>=77" wheel
	$(BIN)/pip install -q "$(TORCH)"
	$(BIN)/pip install -q pytest hypothesis pytest-xdist ruff mypy jaxtyping beartype
	$(BIN)/pip install -q --no-build-isolation -e ".[viz,body,vq]"
	touch $@

demo: env
	$(BIN)/maskmotion demo --run runs/demo

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: env lint
	$(BIN)/pytest -q -n auto --dist loadscope --durations=10

test-slow: env
	$(BIN)/pytest -q -m "slow" --durations=10

# Ratios of times taken side by side, and memory over length; docs/tokenizers.md says what they gave.
bench: env
	$(BIN)/python benchmarks/rvq.py
	$(BIN)/python benchmarks/long_motion.py

clean:
	rm -rf runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
