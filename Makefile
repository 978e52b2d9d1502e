# The commands a developer needs. `make run` works on a clean clone with Rust and Node, `make test` needs Python, a JDK
# and Maven besides.

CARGO ?= cargo
PROFILE := --release
MILLPOND := target/release/millpond
# How long each fuzz target runs, how many rounds the kill -9 harness takes, how long a soak is.
FUZZ_SECONDS ?= 60
CRASH_ROUNDS ?= 50
SOAK_MINUTES ?= 60
# The kill -9 harness has a PostgreSQL server beside it where Debian's package is installed.
CRASH_POSTGRES ?= $(if $(wildcard /usr/lib/postgresql/*/bin/postgres),--postgres)
SOAK_RATE ?= 2000
ARGS ?=

.PHONY: run build web static static-check deb-check test rust house fuzz crash crash-long store-long conformance browser examples bench soak fmt lint deny deb clean help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: build ## Build what is needed and start the broker with its store in ./data (ARGS="--data-dir DIR ..." for more)
	$(MILLPOND) serve $(ARGS)

build: web ## Build the console, and the binary that has it in it
	$(CARGO) build $(PROFILE) --package millpond --bin millpond

CONSOLE := web/dist/www/index.html
CONSOLE_SOURCES := $(shell find web/src web/public web/scripts -type f) $(wildcard web/*.json web/*.ts web/*.js web/*.html)

web: $(CONSOLE) ## Build the console (Node 20.19 or newer), which the next build of the binary embeds

$(CONSOLE): $(CONSOLE_SOURCES)
	@if command -v npm >/dev/null; then cd web && npm ci --no-audit --no-fund && npm run build; \
	else echo 'There is no npm: the binary is built without the console.'; fi

test: ## Install what the tests need and run them all
	bash tests/all

rust: ## The Rust tests alone
	$(CARGO) test $(PROFILE) --workspace

house: ## Layers, sizes, banned calls, links
	$(CARGO) xtask layers
	$(CARGO) xtask tidy

fuzz: build ## Feed generated inputs to every decoder, FUZZ_SECONDS each
	bash fuzz/run $(FUZZ_SECONDS)

crash: build ## Kill the broker with -9, CRASH_ROUNDS times, and look for lost messages
	$(CARGO) run $(PROFILE) --package millpond-crash -- --rounds $(CRASH_ROUNDS) --broker $(MILLPOND)
	$(CARGO) run $(PROFILE) --package millpond-crash -- --engine $(CRASH_POSTGRES) --rounds $(CRASH_ROUNDS) --broker $(MILLPOND)

conformance: build ## Stock clients in Python, Node, Java and Rust against the binary
	bash conformance/run

browser: build ## The console in a real Chromium: what people do with it, and every screen by axe
	cd web && npm run test:browser

examples: build ## The examples, also with the broker killed in the middle
	bash examples/orders/check
	bash examples/password-reset/check
	bash examples/functions/check
	bash examples/migration/check

bench: build ## Measure beside the null broker (AMQPLOAD=DIR names the folder of the load generator)
	bash bench/run

soak: build ## Mixed load and unrest for SOAK_MINUTES at SOAK_RATE messages/s: nothing lost, nothing stuck, memory flat
	$(CARGO) run $(PROFILE) --package millpond-soak -- --minutes $(SOAK_MINUTES) --rate $(SOAK_RATE) --broker $(MILLPOND)

store-long: ## Random histories of the store, for ten minutes
	MILLPOND_STORE_SECONDS=600 $(CARGO) test $(PROFILE) --package millpond-store

crash-long: ## 500 rounds of the kill -9 harness
	$(MAKE) crash CRASH_ROUNDS=500

fmt: ## Format
	$(CARGO) fmt --all

lint: ## Format check, clippy with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(PROFILE) --workspace --all-targets -- -D warnings

# Not part of `make test`: cargo-deny is a tool of its own that takes minutes to build.
deny: ## Licences, bans and sources of what is depended on; then, over the network, advisories
	@command -v cargo-deny >/dev/null || { echo 'cargo-deny is not installed: cargo install --locked cargo-deny'; exit 1; }
	$(CARGO) deny check licenses bans sources
	$(CARGO) deny check advisories

CARGO_DEB := target/tools/bin/cargo-deb
CARGO_DEB_VERSION := 3.8.0

# A tool of its own, pinned, and kept out of the user's own tools.
$(CARGO_DEB):
	$(CARGO) install cargo-deb --version $(CARGO_DEB_VERSION) --locked --root target/tools

deb: build $(CARGO_DEB) ## Build the Debian package in target/debian
	mkdir -p target/completions
	$(MILLPOND) completions bash >target/completions/millpond
	$(MILLPOND) completions zsh >target/completions/_millpond
	$(MILLPOND) completions fish >target/completions/millpond.fish
	$(CARGO_DEB) --package millpond --no-build --strip

# musl-gcc is of Debian's musl-tools; the C libraries in the binary are built with it.
STATIC_TARGET := $(shell uname -m)-unknown-linux-musl
static: web ## Build a binary that needs no library, as the Dockerfile does (rustup target add $(STATIC_TARGET), musl-tools)
	CC_$(subst -,_,$(STATIC_TARGET))=musl-gcc $(CARGO) build $(PROFILE) --locked --package millpond --bin millpond \
		--target $(STATIC_TARGET)
	objcopy --strip-debug target/$(STATIC_TARGET)/release/millpond

deb-check: deb ## Install the package in a Debian of its own and start, crash, hang and stop it by systemd (root)
	bash packaging/check-package

static-check: static ## Run the static binary as the image does: nothing else in its root, not as root itself (root)
	bash packaging/check-image target/$(STATIC_TARGET)/release/millpond

# Each of these has a folder a language, and its packages are installed there.
SUITES := conformance $(wildcard examples/*)

clean: ## Remove what was built and what tests installed
	rm -rf target .venv
	rm -rf web/node_modules web/dist/www
	rm -rf $(addsuffix /node/node_modules,$(SUITES)) $(addsuffix /java/target,$(SUITES)) $(addsuffix /python/.venv,$(SUITES))
	find conformance examples -name __pycache__ -prune -exec rm -rf {} +
