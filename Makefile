# On a new machine `make run` and `make test` need nothing but Python and make.
# Written for GNU make 3.81, which macOS ships.

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
FOLDERS := app queue schemas workers
CLIENTS := .venv-clients
REFERENCE := .venv-reference
PEERS := .venv-rapid-mlx .venv-vllm-mlx
LLAMA_CPP := .venv-llama-cpp
NODE := tests/clients/node
CONSOLE := tests/console/node
CHROME := /Applications/Google Chrome.app/Contents/MacOS/Google Chrome

# Which Python makes the environment: the first of these that fits, or the one named with PYTHON=...
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3)

# MLX's backend on Linux: BACKEND=cuda for a GPU of NVIDIA's. On a Mac it means nothing.
BACKEND := $(if $(shell command -v nvidia-smi 2>/dev/null),cuda,cpu)
OTHER_BACKEND := $(if $(filter cuda,$(BACKEND)),cpu,cuda)
PACKAGES_cpu := mlx-cpu
PACKAGES_cuda := mlx-cuda-12 mlx-cuda-13

# Exits with 0: fits, 1: too old, 2: not native to Apple silicon, 3: cannot make environments.
PROBE := import importlib.util as u, platform as p, sys; sys.exit( \
	1 if sys.version_info < (3, 11) else \
	2 if p.system() == "Darwin" and (p.machine() == "x86_64" or p.processor() == "i386") else \
	3 if u.find_spec("ensurepip") is None else 0)

.DEFAULT_GOAL := help
.PHONY: help run test check docs audit agents conformance fidelity bench bench-packed bench-peers bench-faults format clean blas typed \
	clients node browser

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# The demo model babbles: its answers are cut short where a request sets no limit.
run: $(VENV)/.installed-$(BACKEND) blas ## Start the server with the demo model, or with MODEL=path-or-hub-id; more flags in ARGS=...
	@model="$(MODEL)"; if [ -z "$$model" ]; then \
		model="$$($(BIN)/mlx-server demo)" || exit 1; \
		: "$${MLX_SERVER_DEFAULT_MAX_TOKENS:=512}"; export MLX_SERVER_DEFAULT_MAX_TOKENS; \
	fi; \
	exec $(BIN)/mlx-server launch --model-path "$$model" $(ARGS)

test: $(VENV)/.installed-dev blas clients browser ## Run the tests, two files at a time; pytest's own flags in ARGS=...
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

check: $(VENV)/.installed-dev typed ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev ## Write docs/flags.md from the options of `mlx-server launch`
	$(BIN)/python tests/docs/flags.py

agents: $(VENV)/.installed-dev blas ## Have real coding agents work with this server; names and flags in ARGS=...
	$(BIN)/python tests/agents/run.py $(ARGS)

conformance: $(VENV)/.installed-dev blas ## Run other people's suites against this server; names of some in ARGS=...
	$(BIN)/python tests/conformance/run.py $(ARGS)

fidelity: $(VENV)/.installed-dev $(REFERENCE)/.installed ## Compare what models compute with transformers, and write docs/models.md
	cd tests/fidelity && ../../$(REFERENCE)/bin/python reference.py $(ARGS)
	cd tests/fidelity && ../../$(REFERENCE)/bin/python reference_sentences.py
	cd tests/fidelity && ../../$(REFERENCE)/bin/python reference_vision.py
	$(BIN)/python tests/fidelity/report.py

bench: $(VENV)/.installed-dev blas ## Measure this server against the bare engine; flags in ARGS=...
	$(BIN)/python bench/run.py $(ARGS)

bench-peers: $(VENV)/.installed-bench $(PEERS:%=%/.installed) blas ## Compare with other servers on this machine; flags in ARGS=...
	$(BIN)/python bench/peers.py $(ARGS)

bench-packed: $(VENV)/.installed-dev $(LLAMA_CPP)/.installed blas ## Packed weights beside float32 and llama.cpp; MODEL=folder, flags in ARGS=...
	$(BIN)/python bench/packed/weights.py $(MODEL) --llama-cpp q4_1 q4_0 $(ARGS)

bench-faults: $(VENV)/.installed-dev blas ## Kill, stop, starve and leave a server under load; flags in ARGS=...
	$(BIN)/python bench/faults/run.py $(ARGS)

audit: $(VENV)/.installed-dev ## Look up known weaknesses of what is installed
	$(BIN)/python -m pip_audit --local --progress-spinner off

format: $(VENV)/.installed-dev ## Format the code and fix what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clients: $(CLIENTS)/.installed node ## Install the client libraries that the tests and the notebooks use

clean: ## Remove the environment and everything that was generated (cached models stay)
	rm -rf $(VENV) $(CLIENTS) $(REFERENCE) $(PEERS) $(LLAMA_CPP) .agents .conformance $(NODE)/node_modules $(CONSOLE)/node_modules .typed build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find $(FOLDERS) tests bench examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/.created:
	@if $(BIN)/python -c '$(PROBE)' 2>/dev/null; then \
		$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip && touch $@; exit; \
	fi; \
	found=; intel=; bare=; \
	for python in $(PYTHONS); do \
		"$$python" -c '$(PROBE)' 2>/dev/null; \
		case $$? in 0) found="$$python"; break;; 2) intel="$$python";; 3) bare="$${bare:-$$python}";; esac; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
		package="$$("$$bare" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')"; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y "$$package" && found="$$bare"; \
		else \
			echo "$$bare cannot make virtual environments (no ensurepip)." >&2; \
			echo "On Debian or Ubuntu: sudo apt-get install $$package" >&2; \
		fi; \
	elif [ -z "$$found" ] && [ -n "$$intel" ]; then \
		echo "$$intel is built for Intel and MLX needs a native Python on Apple silicon:" >&2; \
		echo "platform.processor() must say arm, not i386. Install an arm64 Python (python.org or Homebrew" >&2; \
		echo "in /opt/homebrew), or name it: make run PYTHON=/opt/homebrew/bin/python3" >&2; \
	elif [ -z "$$found" ]; then \
		echo "No Python 3.11 or newer among: $(PYTHONS). Name one: make run PYTHON=/path/to/python3" >&2; \
	fi; \
	[ -n "$$found" ] && "$$found" -m venv --clear $(VENV) && touch $@

# Each backend overwrites the other's library, which uninstalling either of them takes away.
$(VENV)/.installed-$(BACKEND): $(VENV)/.created pyproject.toml
	@rm -f $(VENV)/.installed-$(OTHER_BACKEND)
	@if $(BIN)/python -m pip show --quiet $(PACKAGES_$(OTHER_BACKEND)) 2>/dev/null; then \
		$(BIN)/python -m pip uninstall --yes $(PACKAGES_cpu) $(PACKAGES_cuda); \
	fi
	$(PIP_INSTALL) -e '.[audio,vlm,$(BACKEND)]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml
	$(PIP_INSTALL) -e '.[dev,$(BACKEND)]'
	@touch $(VENV)/.installed-$(BACKEND) $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(PIP_INSTALL) -e '.[dev,bench,$(BACKEND)]'
	@touch $@

# Other people's libraries have an environment of their own: what they ask for must not bind the server's.
$(CLIENTS)/.installed: tests/clients/python/requirements.txt | $(VENV)/.installed-dev
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(CLIENTS)
	$(BIN)/uv pip install --quiet --python $(CLIENTS)/bin/python -r $<
	@touch $@

$(REFERENCE)/.installed: tests/fidelity/requirements.txt | $(VENV)/.installed-dev
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(REFERENCE)
	$(BIN)/uv pip install --quiet --python $(REFERENCE)/bin/python -r $<
	@touch $@

# Each brings PyTorch: some 6 GB on Linux, once for both.
$(PEERS:%=%/.installed): .venv-%/.installed: bench/requirements/%.txt | $(VENV)/.installed-dev
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-$*
	$(BIN)/uv pip install --quiet --python .venv-$*/bin/python -r $< 'mlx[$(BACKEND:cuda=cuda13)]'
	@touch $@

# llama.cpp is compiled: it takes cmake and a C++ compiler, and some minutes.
$(LLAMA_CPP)/.installed: bench/requirements/llama-cpp.txt | $(VENV)/.installed-dev
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LLAMA_CPP)
	$(BIN)/uv pip install --quiet --python $(LLAMA_CPP)/bin/python -r $<
	@touch $@

node:
	@if ! command -v npm >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nodejs npm || exit; \
	fi; \
	if command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)'; then \
		exec $(MAKE) --silent --no-print-directory $(NODE)/node_modules/.package-lock.json \
			$(CONSOLE)/node_modules/.package-lock.json; \
	fi; \
	echo "Without npm and Node 18 or newer, tests of the Node clients and some of the console are skipped." >&2

%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@

# Debian has a Chromium of its own; elsewhere Playwright brings one.
browser: $(VENV)/.installed-dev ## Find or install the browser that the tests of the console drive
	@for name in chromium chromium-browser google-chrome google-chrome-stable "$(CHROME)"; do \
		if command -v "$$name" >/dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium && exit 0; \
		$(BIN)/python -m playwright install --with-deps chromium; \
	else \
		$(BIN)/python -m playwright install chromium; \
	fi

# The BLAS inside MLX's Linux wheel is the unoptimised reference one; workers preload OpenBLAS where they find it.
blas:
	@if [ "$$(uname -s)" != Linux ]; then exit 0; fi; \
	if PATH="$$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null | grep -q 'libopenblas\.so\.0'; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y libopenblas0-pthread && exit 0; \
	fi; \
	echo "Without OpenBLAS, models run many times slower on a CPU. To install it:" >&2; \
	if command -v apt-get >/dev/null; then \
		echo "  sudo apt-get install libopenblas0-pthread" >&2; \
	else \
		echo "  your system's package of OpenBLAS (it provides libopenblas.so.0)" >&2; \
	fi

# Type checkers do not follow setuptools' editable finder: they see the package through these links.
typed:
	@mkdir -p .typed/mlx_server
	@for folder in $(FOLDERS); do ln -sfn "../../$$folder" ".typed/mlx_server/$$folder"; done
