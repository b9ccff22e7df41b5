PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/ready  ## train, export and score handwritten digits, and write a report
	$(BIN)/adae-edge demo --out demo

test: .venv/ready  ## lint, then every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build demo *.egg-info
