# Every target is the only command a fresh machine needs: the first use makes .venv and installs into it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= jobs/configs/demo.yaml

.PHONY: demo test nightly faults chaos cluster-test check bench lock clean

demo: $(VENV)/.installed  ## the four stages on drawn street scenes
	$(BIN)/unet-ray prepare $(CONFIG)
	$(BIN)/unet-ray train $(CONFIG)
	$(BIN)/unet-ray predict $(CONFIG)
	$(BIN)/unet-ray report $(CONFIG)

test: $(VENV)/.installed  ## every test that this machine can run but the nightly ones; those that start Ray beside the others
	$(BIN)/pytest -m 'not nightly' --numprocesses 2 --dist loadscope --no-loadscope-reorder

faults: $(VENV)/.installed  ## every request fails or kills in every way, bad files, damaged bytes; a JSON line at the end
	$(BIN)/pytest tests/faults --exhaustive --tally faults.json
	@cat faults.json

chaos: $(VENV)/.installed  ## processes killed under real jobs, up to 30 minutes; a JSON line at the end
	$(BIN)/pytest tests/chaos --tally chaos.json
	@cat chaos.json

check: $(VENV)/.installed  ## format, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

nightly: $(VENV)/.installed  ## the tests that take minutes and that make test leaves out
	$(BIN)/pytest -m nightly

cluster-test: $(VENV)/.installed  ## jobs submitted, hosts that die, a cluster that grows, manifests, the image; a JSON line at the end
	$(BIN)/pytest tests/cluster --tally cluster.json
	@cat cluster.json

bench: $(VENV)/.installed  ## speed against limits and peers, to bench.json
	$(BIN)/python -m tests.bench.run bench.json

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev,query]'
	touch $@

lock:  ## constraints.txt anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
	  --no-annotate --no-header --no-emit-index-url --quiet -o constraints.txt

clean:
	rm -rf $(VENV) runs bench.json faults.json chaos.json cluster.json .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
