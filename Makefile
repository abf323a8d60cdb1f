# The two commands of the README, and what stands behind them. `make run ARGS="--help"` passes flags on.

# What the requirements are pinned for. The newest that is found here, with what makes virtual environments, is used;
# make run PYTHON=python3.12 chooses another.
PYTHONS := 3.14 3.13 3.12 3.11
VENV ?= .venv
VERSION_OF = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
CAN_BE_USED = $(shell $(1) -c 'import ensurepip, venv' 2>/dev/null && echo $(1))
NEWEST = $(firstword $(foreach version,$(PYTHONS),$(call CAN_BE_USED,python$(version))) python3)
WANTED = $(eval WANTED := $(or $(PYTHON),$(NEWEST)))$(WANTED)
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

# A third file of tests fills the time in which those on two cores wait for processes and disks.
AT_ONCE := --numprocesses 3 --dist loadfile

.PHONY: another-python run test test-processes test-slow test-gpu lint docs submission-check aicrowd-cli check-scores bench bench-codes bench-batches bench-training bench-layers bench-pictures bench-busy bench-quick clean

run: $(VENV)/.installed
	$(VENV)/bin/python run.py $(ARGS)

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest $(AT_ONCE) $(ARGS)

# Scripts, sweeps and servers as processes of their own, some of them killed.
test-processes: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest $(AT_ONCE) -m "processes and not slow" $(ARGS)

test-slow: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -m slow $(ARGS)

# All that only a GPU can show. Without one each test is skipped, and counted at the end. In an environment that is there
# already, with an older PyTorch too: python -m pytest -m gpu
test-gpu: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -m gpu $(ARGS)

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The site, scratch/site/index.html. A link between pages that leads nowhere is an error. The variable silences a notice of
# the theme about its successor.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict $(ARGS)

# What the evaluator would do with what is committed: a list of ticks and one exit code.
submission-check: $(VENV)/.installed
	$(VENV)/bin/python -m disentanglement_challenge.submission check

# AIcrowd's command line, in an environment of its own: its pins and the project's do not go together.
aicrowd-cli: .venv-aicrowd-cli/.installed
	@.venv-aicrowd-cli/bin/aicrowd $(or $(ARGS),--help)

# Both engines on one experiment's model: make check-scores ARGS="--experiment NAME"
check-scores: $(VENV)/.installed
	PYTHONPATH=. $(VENV)/bin/python benchmarks/check_scores.py $(ARGS)

# Scores against disentanglement_lib's own, by number of latents; benchmarks/README.md says what is measured.
bench: $(VENV)/.installed
	PYTHONPATH=. $(VENV)/bin/python benchmarks/scores.py $(ARGS)

# The five scores of an array of codes, against disentanglement_lib's own code on the same array.
bench-codes: $(VENV)/.installed
	PYTHONPATH=. $(VENV)/bin/python benchmarks/codes.py $(ARGS)

# Random batches against the starter kit's loader, and the store's format against HDF5.
bench-batches: $(VENV)/.installed
	PYTHONPATH=. $(VENV)/bin/python benchmarks/batches.py $(ARGS)

# The training step against plain eager PyTorch and other packages; with ARGS="--check" the CUDA graph against eager.
bench-training: $(VENV)/.installed
	PYTHONPATH=. $(VENV)/bin/python benchmarks/training.py $(ARGS)

# Where the time of a training step goes, layer by layer, against a matrix product's rate.
bench-layers: $(VENV)/.installed
	PYTHONPATH=. $(VENV)/bin/python benchmarks/layers.py $(ARGS)

# What the pictures for TensorBoard take of training's time, against the training step itself.
bench-pictures: $(VENV)/.installed
	PYTHONPATH=. $(VENV)/bin/python benchmarks/pictures.py $(ARGS)

# Training alone and beside a busy process.
bench-busy: $(VENV)/.installed
	PYTHONPATH=. $(VENV)/bin/python benchmarks/busy_machine.py $(ARGS)

# How long the scripts take to show their help and to refuse a mistake, beside the import of PyTorch.
bench-quick: $(VENV)/.installed
	PYTHONPATH=. $(VENV)/bin/python benchmarks/quick_no.py $(ARGS)

clean:
	rm -rf $(VENV) .venv-aicrowd-cli .mypy_cache .ruff_cache .pytest_cache

# Asked for another Python than the environment's, it is made anew.
ifneq ($(PYTHON),)
ifneq ($(call VERSION_OF,$(PYTHON)),$(call VERSION_OF,$(VENV)/bin/python))
$(VENV)/.installed: another-python
endif
endif

# A stamp is written only after everything was installed, so an interrupted installation is taken up again.
$(VENV)/.installed: requirements.txt
	@$(if $(filter $(PYTHONS),$(call VERSION_OF,$(WANTED))),,echo "error: $(WANTED) is $(or $(addprefix Python ,$(call \
		VERSION_OF,$(WANTED))),not there); this runs on Python $(PYTHONS): set PYTHON, as in make run PYTHON=python3.13" >&2; exit 1)
	@$(if $(call CAN_BE_USED,$(WANTED)),,echo "error: $(WANTED) cannot make virtual environments; install its venv (apt \
		install python3-venv on Debian and Ubuntu)" >&2; exit 1)
	@$(if $(filter $(call VERSION_OF,$(WANTED)),$(call VERSION_OF,$(VENV)/bin/python)),,rm -rf $(VENV))
	$(WANTED) -m venv $(VENV)
	$(PIP) install --quiet -r requirements.txt
	$(PIP) check
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(PIP) install --quiet -r requirements-dev.txt
	$(PIP) check
	@touch $@

.venv-aicrowd-cli/.installed: requirements-aicrowd-cli.txt
	$(WANTED) -m venv .venv-aicrowd-cli
	.venv-aicrowd-cli/bin/python -m pip --disable-pip-version-check install --quiet -r requirements-aicrowd-cli.txt
	@touch $@
