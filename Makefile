# Each target installs what is missing and calls `marloop`, whose verbs have --help and read the settings in `.env`.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MARLOOP := $(BIN)/python -m marloop
# A model whose recipe needs packages of its own has an extra of its name in pyproject.toml.
EXTRA := $(if $(MODEL),$(if $(shell grep '^$(MODEL) = \[' pyproject.toml),$(VENV)/extra-$(MODEL)))
LITERT := $(VENV)-litert
RUN_DIR := $(or $(MARLOOP_RUN_DIR),$(shell sed -n 's/^\(export \)\{0,1\}MARLOOP_RUN_DIR=//p' .env 2>/dev/null | tail -1),run)
# The host of `up`: that of Ray has an extra.
SERVES = $(or $(MARLOOP_HOST),$(shell sed -n 's/^\(export \)\{0,1\}MARLOOP_HOST=//p' .env 2>/dev/null | tail -1))
COMMA := ,
SPACE := $() $()

# What serves: `make up HOST=direct`. A HOST of the shell means nothing.
ifeq ($(origin HOST),command line)
export MARLOOP_HOST := $(HOST)
endif

.PHONY: help up down status logs train load tune bench bench-chat replay test clients loop-test chaos ray-test chaos-ray evaluation-test compose-test lint types format constraints reports lock sbom secrets pin-images \
	llama litert clean

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV)/runtime $(if $(filter ray,$(SERVES)),$(VENV)/extra-ray) ## Train what is missing, start everything, wait until every model answers: make up [HOST=direct]
	@$(MARLOOP) up

down: $(VENV)/runtime ## Stop all that `up` started
	@$(MARLOOP) down

status: $(VENV)/runtime ## Ask every model its example: what runs, which versions, do they answer
	@$(MARLOOP) status

logs: $(VENV)/runtime ## Follow the logs
	@$(MARLOOP) logs

train: $(VENV)/runtime $(EXTRA) ## Train, evaluate (a page in model_store/reports), archive, register: make train MODEL=fashion [PRESET=full]
	@test -n "$(MODEL)" || { $(MARLOOP) recipes; echo "usage: make train MODEL=… [PRESET=…]"; exit 2; }
	@$(MARLOOP) train $(MODEL) $(if $(PRESET),--preset $(PRESET))

load: $(VENV)/load ## Load the running service and judge it: make load MODEL=flights [PROFILE=smoke]
	@$(MARLOOP) load $(if $(MODEL),--model $(MODEL)) $(if $(PROFILE),--profile $(PROFILE)) $(ARGS)

tune: $(VENV)/load ## Find the best batch and worker settings: make tune MODEL=flights [P99_MS=50]
	@test -n "$(MODEL)" || { echo "usage: make tune MODEL=… [P99_MS=50]"; exit 2; }
	@$(MARLOOP) tune --model $(MODEL) $(if $(P99_MS),--p99-ms $(P99_MS)) $(ARGS)

bench: $(VENV)/load ## Side by side with peers in one run, into docs/performance.md
	@$(MARLOOP) bench $(ARGS)

bench-chat: $(VENV)/runtime ## The language model side by side with peers in one run, into docs/language-model.md
	@$(MARLOOP) bench language $(ARGS)

replay: $(VENV)/runtime ## Live through the flights of 2013, never retrained and on the loop, into docs/closed-loop.md
	@$(MARLOOP) replay --output docs $(ARGS)

test: $(VENV)/dev ## Run the test suite, real TorchServe included
	@$(BIN)/python -m pytest $(or $(ARGS),-n 3 --dist loadfile --durations=25)

clients: $(VENV)/dev ## Install clients of other projects that tests ask with, each in an environment of its own: 0.9 GB in .clients
	@$(BIN)/python -m tests.clients.environments $(ARGS)

loop-test: $(VENV)/dev ## Test the closed loop on real processes: replay, retraining, promotion under load, console; ten minutes
	@$(BIN)/python -m pytest -m "loop and not ray" $(or $(ARGS),tests/integration)

chaos: $(VENV)/dev ## Kill, stop, fill, damage and flood everything, into docs/reliability.md; 20 minutes
	@$(BIN)/python -m tests.chaos --page docs/reliability.md $(ARGS)

evaluation-test: $(VENV)/dev $(VENV)/extra-chat $(VENV)/extra-evaluate ## Test that lm-eval scores the language model through both hosts as transformers on its weights; three minutes
	@$(MARLOOP) fetch chat
	@$(BIN)/python -m pytest -m evaluation $(or $(ARGS),tests/integration/language)

ray-test: $(VENV)/dev $(VENV)/extra-ray ## Test what all hosts promise on a cluster of Ray Serve; seventeen minutes
	@$(BIN)/python -m pytest -m ray $(or $(ARGS),tests/integration tests/monitoring/retraining/launch tests/training/fitting)

chaos-ray: $(VENV)/dev $(VENV)/extra-ray ## Kill and freeze replicas, nodes and the head of Ray on three nodes, into docs/machines/ray.md
	@$(BIN)/python -m tests.chaos --ray --page docs/machines/ray.md $(ARGS)

compose-test: $(VENV)/dev ## Build the images; bring up docker-compose.yml and pods of the chart; skipped where no Docker is
	@$(BIN)/python -m pytest -m compose $(or $(ARGS),tests/compose tests/integration/hosts/kubernetes)

lint: $(VENV)/dev ## Check style: ruff
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/dev ## Check types: mypy --strict
	@$(BIN)/mypy

format: $(VENV)/dev ## Format: ruff
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

constraints: $(VENV)/dev ## Pin the versions that are installed now
	@{ head -1 constraints.txt; $(BIN)/pip freeze --exclude-editable | grep -v ' @ ' | sed 's/+cpu//'; } > constraints.new
	@mv constraints.new constraints.txt

# pip says what each image would get, without installing it.
reports: $(VENV)/dev
	@for image in torchserve direct; do $(BIN)/python deploy/requirements.py $$image $(EXTRAS) > $(VENV)/$$image.txt && \
		$(BIN)/pip install --dry-run --ignore-installed --quiet --disable-pip-version-check -c constraints.txt \
		--report $(VENV)/$$image.json -r $(VENV)/$$image.txt || exit 1; done

lock: reports ## Write requirements*.lock, by which the images take only files of these SHA-256: make lock [EXTRAS=chat]
	@$(BIN)/python deploy/lock.py $(VENV)/torchserve.json > requirements.lock
	@$(BIN)/python deploy/lock.py $(VENV)/direct.json > requirements-direct.lock

sbom: reports ## Write sbom-*.cdx.json, what each image is made of (CycloneDX), for scanners: make sbom [EXTRAS=chat]
	@for image in torchserve direct; do \
		$(BIN)/python deploy/sbom.py $$image $(VENV)/$$image.json > sbom-$$image.cdx.json || exit 1; done

secrets: ## Make the files of secrets that docker-compose.yml mounts; what is there stays
	@sh deploy/make-secrets.sh

pin-images: ## Print the images of docker-compose.yml with their digests, for .env: make pin-images >> .env
	@sh deploy/pin-images.sh

clean: down ## Stop, and remove all that was made but the model store and fetched data
	@rm -rf $(VENV) $(LITERT) $(RUN_DIR) runs *.egg-info build .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache/tests

$(VENV)/bin/python:
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# Stamps, so that `up` installs no more than it needs.
$(VENV)/runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing Marloop into $(VENV): 1.7 GB with the CPU build of torch, a minute or two"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/load: $(VENV)/runtime
	@echo "installing what load tests need"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[load]'
	@touch $@

$(VENV)/extra-%: $(VENV)/runtime
	@echo "installing what $* needs"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

# pip builds it once and keeps the wheel in its cache; the next environment has it in seconds.
llama: $(VENV)/extra-chat ## Build llama.cpp, the fastest engine of a language model: needs a C++ compiler, ten minutes
	@command -v c++ >/dev/null || { echo "no C++ compiler: install one (Debian: apt install g++), or stay with OpenVINO"; exit 1; }
	@echo "building llama.cpp: about ten minutes on two cores the first time; train chat again afterwards"
	@$(BIN)/pip install --disable-pip-version-check -c constraints.txt $(if $(WHEELS),--find-links $(WHEELS)) -e '.[chat-llama]'

# Its converter cannot share an environment with pydantic, so it has its own, which borrows torch from this one.
litert: $(LITERT)/installed ## Install what `marloop export --format tflite` needs: 1 GB beside .venv
$(LITERT)/installed: training/improve/formats/litert.txt | $(VENV)/extra-tflite
	@echo "installing what writes TensorFlow Lite into $(LITERT): 1 GB"
	@$(BIN)/python -m venv $(LITERT)
	@$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > \
		$$($(LITERT)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/training-environment.pth
	@$(LITERT)/bin/python -m pip install --quiet --disable-pip-version-check -r training/improve/formats/litert.txt
	@touch $@

$(VENV)/dev: $(VENV)/runtime
	@echo "installing what tests need"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
