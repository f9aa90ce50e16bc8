.DEFAULT_GOAL := help
.PHONY: help run serve demo test chaos verify bench faults up down fmt lint types imports unit openapi locks

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'
run: ## the whole stack on this machine, with a sample campaign; Ctrl-C stops it
	@tools/run run
serve: ## the whole stack without the sample campaign
	@tools/run serve
demo: ## as run, but stops after the campaign; 0 only if everybody got exactly one message
	@tools/run demo
test: ## everything CI runs, on real servers
	@tools/test
chaos: ## ten minutes of bad days: 100,000 jobs, and every one accounted for
	@tools/test long
verify: ## the services on every other PostgreSQL that is installed
	@tools/test postgres
bench: ## our figures beside bare limits
	@tools/bench
faults: ## what rate limits give out while their stores die, beside the bound
	@tools/bench faults
up: ## the stack in containers
	docker compose up --build --wait
down: ## stop the containers, keep their data
	docker compose down
fmt: ## format and fix
	.venv/bin/ruff check --fix . && .venv/bin/ruff format .
lint: ## ruff
	@tools/test lint
types: ## mypy
	@tools/test types
imports: ## who may import whom
	@tools/test imports
unit: ## the fast tests
	@tools/test unit
openapi: ## write the OpenAPI documents from the routes
	@for s in gateway queue_service session_service ratelimit_service; do \
	  .venv/bin/python -m $$s openapi > shared/contracts/src/contracts/openapi/$$(echo $$s | tr _ -).json; done
locks: ## resolve requirements/*.in again (needs uv)
	cd requirements && for f in runtime local dev; do uv pip compile --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links -q $$f.in -o $$f.lock; done
