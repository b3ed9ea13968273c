# `make` alone lists what there is to make.

PYTHON ?= python3
# The image that the containers are built on.
BASE ?= python:3.11-slim-bookworm
# More options for `docker build`, e.g. --network=host.
DOCKER_OPTIONS ?=
# More options for `apptainer build` where there is no Docker.
APPTAINER_OPTIONS ?=
# `make lock UPGRADE=--upgrade` moves every pin to its newest version; otherwise a pin moves only where it must.
UPGRADE ?=
# The experiment that `make plan` is about.
CONFIG ?= config.yaml

IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
PINS := containers/requirements
IMAGES := faiss torch
SQUASHED := --mksquashfs-args="-comp zstd -Xcompression-level 3"

.PHONY: help run papers-small evidence evidence-small plan test test-cluster lint bench bench-check images lock docs clean
.DELETE_ON_ERROR:

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' Makefile

run: .venv/installed ## Run the workflow on this machine, as config.yaml says
	$(IN_VENV) snakemake --cores all

# $(call gather,PAGE,EXPERIMENTS,FOLDER,OPTIONS): run FOLDER/<each experiment>.yaml, and write docs/PAGE.md of them. What
# is in docs/ stays until all of it has run.
define gather
@gathered=$$(mktemp -d) && trap 'rm -rf "$$gathered"' EXIT && \
for experiment in $(2); do \
    $(IN_VENV) snakemake --cores all --configfile $(3)/$$experiment.yaml && \
    PYTHONPATH=workflow $(IN_VENV) python -m experiment.gather \
        --configfile $(3)/$$experiment.yaml --into "$$gathered/$(1).md" $(4) || exit; \
done && \
rm -rf $(2:%=docs/figures/%) && cp -r "$$gathered/." docs/
endef

papers-small: .venv/installed ## Run the papers' tables and figures in small, and write docs/results.md
	$(call gather,results,compress simdis,workflow/configs/small)

evidence: .venv/installed ## Run the papers' claims on photographs, on a GPU, and write docs/evidence.md
	$(call gather,evidence,evidence,workflow/configs,--metrics)

evidence-small: .venv/installed ## The same in small, on two CPU cores
	$(call gather,evidence,evidence,workflow/configs/small,--metrics)

plan: .venv/installed ## Show what would run and why, which data CONFIG needs, and about how many GPU hours
	$(IN_VENV) snakemake --dry-run --quiet rules host --configfile $(CONFIG)

test: .venv/installed ## Run the tests
	$(IN_VENV) python -m pytest -n 2 --dist loadfile --ignore tests/cluster

test-cluster: .venv/installed ## Run the tests on a SLURM cluster, which tests/cluster/host/ makes of a Debian host
	$(IN_VENV) python -m pytest -n 2 --dist loadfile tests/cluster

lint: .venv/installed ## Check format, style and types
	$(IN_VENV) ruff format --check
	$(IN_VENV) ruff check
	$(IN_VENV) snakefmt --check workflow
	$(IN_VENV) snakemake --lint
	$(IN_VENV) mypy

bench: .venv/installed ## Time what is fast beside the plain way, on this machine (minutes; 8 GB of memory)
	$(IN_VENV) python -m benchmarks.table

bench-check: .venv/installed ## As bench, and fail where something is slower than its floor
	$(IN_VENV) python -m benchmarks.table --check

images: $(IMAGES:%=containers/%.sif) ## Build the container images, containers/*.sif, with Docker or without

lock: ## Pin the requirements anew, after an edit of containers/requirements/*.in
	$(check-python)
	@venv=$$(mktemp -d) && trap 'rm -rf "$$venv"' EXIT && \
	$(PYTHON) -m venv "$$venv" && "$$venv/bin/pip" install --quiet uv && cd $(PINS) && \
	compile() { "$$venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	    --generate-hashes --custom-compile-command "make lock" "$$@"; } && \
	compile torch.in faiss.in workflow.in dev.in --output-file all.txt $(UPGRADE) && \
	for image in $(IMAGES); do compile $$image.in --constraints all.txt --output-file $$image.txt || exit; done

docs: .venv/installed ## Write docs/config.md anew, after an edit of the schema or of a stage's options
	PYTHONPATH=workflow $(IN_VENV) python -m experiment.document > docs/config.md.part
	mv docs/config.md.part docs/config.md

clean: ## Remove .venv and the tools' caches; results and images stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The stamp is written last: an installation that was interrupted is done again by the next make. It starts from an
# empty .venv, so that nothing but what is pinned is in it.
.venv/installed: $(PINS)/all.txt
	$(check-python)
	@echo "Installing the pinned packages into .venv, once: about 3 minutes and 8 GB"
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

define check-python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
    { echo "$(PYTHON) is missing or older than Python 3.11: install one, or name one: make PYTHON=python3.11" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
    { echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
endef

# An image is labelled with the digest that the workflow knows it by. Docker builds it where its daemon answers, else
# Apptainer does, from the same pins. Packed by zstd, which is quicker both ways than gzip, its default.
$(IMAGES:%=containers/%.sif): containers/%.sif: containers/Dockerfile containers/image.def $(PINS)/%.txt
	@command -v apptainer >/dev/null || { echo "apptainer is not installed: it would have made $@" >&2; exit 1; }
	digest=$$(PYTHONPATH=workflow $(PYTHON) -c 'from experiment.images import identity; print(identity("$*", {}))') && \
	if docker info >/dev/null 2>&1; then \
	    docker build $(DOCKER_OPTIONS) --build-arg BASE="$(BASE)" --build-arg IMAGE=$* \
	        --build-arg SOURCE_DIGEST="$$digest" --tag distillery-$* --file containers/Dockerfile $(PINS) && \
	    apptainer build $(SQUASHED) --force $@.part docker-daemon:distillery-$*:latest; \
	else \
	    apptainer build $(SQUASHED) --build-arg BASE="$(BASE)" --build-arg IMAGE=$* \
	        --build-arg SOURCE_DIGEST="$$digest" $(APPTAINER_OPTIONS) --force $@.part containers/image.def; \
	fi
	mv $@.part $@
