# The same commands as in .pre-commit-config.yaml and .ci/run.
.PHONY: format check test demo test-gpu

format: ## rewrite sources in the common form
	ruff format .
	ruff check --fix .
	snakefmt .

check: ## form, lint, types
	ruff format --check .
	ruff check .
	snakefmt --check .
	mypy
	hadolint Dockerfile
	snakemake --lint

test: ## minutes, on a CPU
	pytest

demo: ## the default experiment from data to tables and figures
	snakemake --cores all

test-gpu: ## what needs a CUDA device
	pytest -n 0 -m gpu
