# The things one does with a checkout of chimage. Everything is set up by itself: a virtual environment in .venv with
# the exact versions of constraints.txt and, for tests run by root on Debian, the programs they need.

SHELL = /bin/sh
.DEFAULT_GOAL = help
.PHONY: help demo test test-all bench lint format venv lock clean

help:  ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

demo:  ## Show what chimage does: a base image from this host's programs, a build, and again from the cache
	@tools/demo.sh

test:  ## Run every check and test but the slow ones (as root: in the shoes of an unprivileged user)
	@tools/test.sh

test-all:  ## The slow tests too
	@tools/test.sh --all

bench: venv  ## Measure against Charliecloud's ch-image (BENCH="--only NAME --rounds N"; see bench/README.md)
	@.venv/bin/python -m bench $(BENCH)

lint: venv  ## Only the static checks: ruff, mypy, import-linter, codespell
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/codespell

format: venv  ## Let ruff lay out the code
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

venv:  ## Make the virtual environment, with the tools for working on chimage
	@tools/venv.sh dev

lock:  ## Find out the newest versions that pyproject.toml allows, and write constraints.txt
	@tools/lock.sh

clean:  ## Remove everything that was made here
	rm -rf .venv .venv.lock .venv.log .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
