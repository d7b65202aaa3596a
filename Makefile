# make serve [PORT=8123]: set up whatever is missing and run the stack.   make test: all tests.   make check: all gates.
# make k8s-check: the manifests, rules and dashboards, without a cluster.
# make report: start the stack, measure it with the small plan, write report/index.html; ten minutes without a GPU.
PORT ?= 8000
PYTHON ?= python3

.PHONY: serve report test check lint types house k8s-check format install clean

serve: .venv/.installed
	@exec .venv/bin/breakeven serve --port $(PORT)

report: .venv/.installed
	.venv/bin/breakeven experiment run benchmarks/plans/small.yaml --serve --out report/results.jsonl.gz
	.venv/bin/breakeven report report/results.jsonl.gz --out report
	@echo "open report/index.html"

# Three at a time on two cores, for most of them wait for processes; but for those with the real engine, which takes the
# whole machine. The order is that of tests/conftest.py. tests/house is in `make check`. 5: ARGS chose none of them.
test: .venv/.installed
	.venv/bin/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not e2e" --ignore tests/house $(ARGS) || [ $$? = 5 ]
	.venv/bin/pytest -m e2e $(ARGS) || [ $$? = 5 ]

check: lint types house

lint: .venv/.installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports

types: .venv/.installed
	.venv/bin/mypy --strict breakeven serving retrieval adapters benchmarks tests k8s/base/await_operator_key.py

house: .venv/.installed
	.venv/bin/pytest -q tests/house

k8s-check: .venv/.installed
	@k8s/check.sh
	.venv/bin/pytest -q tests/k8s

format: .venv/.installed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

install: .venv/.installed

.venv/.installed: pyproject.toml constraints-cpu.txt install.sh
	@PYTHON=$(PYTHON) ./install.sh

# The environment and all state: models, documents, ledger, keys.
clean:
	rm -rf .venv .bootstrap .breakeven
