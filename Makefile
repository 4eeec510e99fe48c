# Everything a newcomer needs; `make` alone lists the targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DOCS   := $(VENV)/docs
# A hanging test prints its stack and ends its process; the other tests continue in a new one.
HUNG   := -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true

.DEFAULT_GOAL := help
.PHONY: help install install-locked lock audit demo test checks browser images docs lint types generated-check generate wheel-check bench gpu fuzz proofs mutants proof-mutants clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY)  ## create .venv with everything, at the versions in constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cliquegraph needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "this Python can't create virtual environments; on Debian: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install-locked:  ## recreate .venv from requirements.lock, with hashes (Python 3.11, Linux); see SECURITY.md
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

lock:  ## regenerate requirements.lock from constraints.txt, with pip-tools and Python 3.11
	$(PYTHON) -m venv $(VENV)/tools
	$(VENV)/tools/bin/pip install --quiet --disable-pip-version-check pip-tools==7.6.2
	$(VENV)/tools/bin/pip-compile --quiet --generate-hashes --strip-extras --extra dev --build-deps-for editable \
	  --constraint constraints.txt --unsafe-package torch --no-emit-find-links --no-emit-index-url \
	  -o requirements.lock pyproject.toml

audit:  ## list known vulnerabilities of the locked versions and PyTorch, with pip-audit; needs pypi.org
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && \
	  $(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1; } || \
	  { echo "pip-audit can't be installed here; elsewhere: pip-audit --strict --disable-pip -r requirements.lock"; exit 2; }
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --progress-spinner off -r requirements.lock
	grep '^torch==' constraints.txt > $(VENV)/audit/torch.txt
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps --progress-spinner off -r $(VENV)/audit/torch.txt

demo: $(READY)  ## compile S3 for both backends, check it, verify quickstart, train digits
	$(BIN)/cliquegraph compile specs/cliquenet_s3.yaml --backend all
	$(BIN)/cliquegraph check specs/cliquenet_s3.yaml
	$(BIN)/cliquegraph steps specs/cliquenet_s3.yaml --block 1
	$(BIN)/cliquegraph verify specs/quickstart.yaml
	$(BIN)/cliquegraph train specs/quickstart.yaml --data digits --epochs 20 --backend torch --out runs/demo-torch --resume
	$(BIN)/cliquegraph train specs/quickstart.yaml --data digits --epochs 20 --backend flax --out runs/demo-flax --resume

test: checks browser images  ## lint, types, generated files, tests
	$(BIN)/python -m pytest -n auto --dist worksteal $(HUNG)

checks:  ## lint, types and generated files, two at a time
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint types generated-check

browser:  ## install Chromium for the tests of the HTML page, as root; without it they are skipped
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    { apt-get install -y -qq chromium chromium-driver || \
	      { apt-get update -qq && apt-get install -y -qq chromium chromium-driver; }; } >/dev/null 2>&1; } || \
	  echo "no Chromium, the page's tests are skipped; on Debian: apt-get install chromium chromium-driver"

images:  ## install Fashion-MNIST for the tests on real data, as root
	@test -d /usr/share/datasets/fashion-mnist || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    { apt-get install -y -qq dataset-fashion-mnist || \
	      { apt-get update -qq && apt-get install -y -qq dataset-fashion-mnist; }; } >/dev/null 2>&1; } || \
	  echo "no Fashion-MNIST, the tests on it are skipped; on Debian: apt-get install dataset-fashion-mnist"

docs: $(DOCS)/.ready  ## build the documentation site into build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet

$(DOCS)/.ready: pyproject.toml constraints.txt website/constraints.txt
	@{ $(PYTHON) -m venv $(DOCS) && \
	  $(DOCS)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -c website/constraints.txt -e '.[docs]'; } || \
	  { echo "MkDocs can't be installed here; elsewhere: pip install -e '.[docs]' && mkdocs build --strict"; exit 2; }
	@touch $@

lint: $(READY)  ## ruff, and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check cliquegraph backends tests examples benchmarks website
	$(BIN)/lint-imports --no-logo

types: $(READY)  ## strict mypy on the compiler, the backends and their generated code
	$(BIN)/cliquegraph compile specs/quickstart.yaml -O2 --out build/o2
	$(BIN)/mypy cliquegraph backends generated/torch generated/flax build/o2

generated-check: $(READY)  ## check that generated/ is up to date, for two hash seeds
	PYTHONHASHSEED=1 $(BIN)/cliquegraph compile --all --check & one=$$!; \
	PYTHONHASHSEED=2 $(BIN)/cliquegraph compile --all --check; two=$$?; wait $$one && exit $$two

generate: $(READY)  ## compile every spec for every backend; draw the README's pictures
	$(BIN)/cliquegraph compile --all
	$(BIN)/cliquegraph schema -o specs/cliquegraph.schema.json
	$(BIN)/cliquegraph errors -o docs/errors.md
	$(BIN)/cliquegraph render specs/cliquenet_k64_t15.yaml --view loop --block 1 -o docs/pictures/loop.svg
	$(BIN)/cliquegraph render specs/cliquenet_k64_t15.yaml --view steps --block 1 -o docs/pictures/steps.svg
	$(BIN)/cliquegraph render specs/cliquenet_s3.yaml --view network -o docs/pictures/network.svg
	$(BIN)/cliquegraph render specs/clique_small_world.yaml --view loop --block 1 -o docs/pictures/small_world.svg
	$(BIN)/cliquegraph render specs/blt.yaml --view loop -o docs/pictures/blt.svg
	$(BIN)/cliquegraph render specs/cornet_rt.yaml --view steps -o docs/pictures/cornet_rt.svg
	$(BIN)/cliquegraph render specs/rcnn_96.yaml --view steps --block 1 -o docs/pictures/recurrent.svg
	$(BIN)/cliquegraph render specs/fractalnet20.yaml --view loop --block 1 -o docs/pictures/fractal.svg
	$(BIN)/cliquegraph render specs/densenet121.yaml --view loop --block 1 -o docs/pictures/dense.svg
	$(BIN)/cliquegraph render specs/resnet18.yaml --view loop --block 1 -o docs/pictures/residual.svg

wheel-check: $(READY)  ## build wheel and sdist; test them in bare virtual environments
	$(BIN)/python -m pytest -q tests/packaging

bench: $(READY)  ## run every benchmark, into benchmarks/results; leave the machine idle
	$(BIN)/python benchmarks/training.py --output
	$(BIN)/python benchmarks/training.py --backend flax --output
	$(BIN)/python benchmarks/memory_format.py --output
	$(BIN)/python benchmarks/alternatives.py --output || test $$? = 2  # without torchvision or timm
	$(BIN)/python benchmarks/evaluation.py --output
	$(BIN)/python benchmarks/evaluation.py --backend flax --output
	$(BIN)/python benchmarks/convolutions.py --output
	$(BIN)/python benchmarks/first_step.py --output
	$(BIN)/python benchmarks/first_step.py --backend flax --output
	$(BIN)/python benchmarks/compile_time.py --out benchmarks/results/compile_time.json

gpu: $(READY)  ## test, then time every -O level on a CUDA device (9 minutes), into benchmarks/results
	$(BIN)/python benchmarks/gpu.py --output

fuzz: $(READY)  ## verify random networks for a night (10 hours of one core), into tests/fuzz/results
	$(BIN)/python tests/fuzz/nightly.py --count 2000 --seed 3 -o tests/fuzz/results/nightly_seed3.json

proofs: $(READY)  ## prove the files of every shipped network, into generated/proofs.json (hours; resumable)
	$(BIN)/python -m tests.proof.table

mutants: $(READY)  ## mutation testing of core and templates, into tests/mutants (hours)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt mutmut==3.8.1
	$(BIN)/python tests/mutants/run.py -o tests/mutants/results.json

proof-mutants: $(READY)  ## mutants of generated files and op graphs against their proofs (hours; resumable)
	$(BIN)/python -m tests.mutants.proofs

clean:  ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis
