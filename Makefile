# `make` alone lists the targets.

CARGO ?= cargo
# Directory of the release build that `make install` and `make install-programs` install.
BUILT = $(or $(CARGO_TARGET_DIR),target)/release
# On Debian ip, iptables and knockd are in directories that only root has in PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | while IFS='|' read -r target text; do \
		printf '  make %-16s %s\n' "$$target" "$$text"; \
	done

demo: install-deps ## show a complete knock in two network namespaces: filtered, open, filtered again
	$(CARGO) build --locked --bins
	scripts/sandbox scripts/demo

check: lint ## run formatting, lints and unit tests
	$(CARGO) test --locked --workspace --exclude portknock-tests

# Every step builds the whole workspace: for a part of it, cargo would build dependencies again with
# other features.
test: export RUSTDOCFLAGS := -D warnings
test: install-deps lint ## run everything: check, documentation, short fuzzing, end-to-end tests in a sandbox
	$(CARGO) test --locked --workspace --lib --bins
	$(CARGO) test --locked --workspace --doc
	$(CARGO) doc --locked --workspace --no-deps
	scripts/check-abi
	scripts/fuzz short
	$(CARGO) build --locked --workspace --lib --bins --tests --examples
	scripts/test-python
	@# These tests wait most of the time, so more of them than processors run at the same time.
	RUST_TEST_THREADS=$$(($$(nproc) * 2)) scripts/sandbox $(CARGO) test --locked --offline --no-fail-fast --workspace \
		--examples --test '*'

lint: ## run formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	scripts/check-style --self-test
	scripts/check-style

golden: ## write all golden files again: messages, diagnostics, packet filters, C header, manual, completions
	UPDATE_GOLDEN=1 $(CARGO) test --locked --workspace --exclude portknock-tests --lib --bins --tests -- golden manual

test-python: install-deps ## test only the Python package, on every Python that is installed
	$(CARGO) build --locked --workspace --lib --bins
	scripts/test-python

fuzz: install-deps ## fuzz every part that reads bytes, FUZZ_SECONDS (300) for each target
	scripts/fuzz long

coverage: install-deps ## measure which lines of core its tests execute
	@$(CARGO) llvm-cov --version >/dev/null 2>&1 || \
		{ echo "cargo-llvm-cov is missing; install it with: cargo install --locked cargo-llvm-cov" >&2; exit 1; }
	$(CARGO) llvm-cov --locked -p portknock-core --lib --tests --ignore-filename-regex '/tests?(/|\.rs)' --summary-only

MUTANTS ?= 0/1
mutants: install-deps ## change core in many small ways and list the changes that no test notices, MUTANTS=0/50 for a part
	@$(CARGO) mutants --version >/dev/null 2>&1 || \
		{ echo "cargo-mutants is missing; install it with: cargo install --locked cargo-mutants" >&2; exit 1; }
	$(CARGO) mutants -p portknock-core --output target --shard $(MUTANTS)

bench: install-deps ## measure speed and memory, compared with the original knockd
	$(CARGO) bench --locked -p portknock-core
	$(CARGO) build --locked --release --workspace --lib --bins
	python=$$(scripts/bench-python) && \
	PORTKNOCK_PYTHON=$$python TZ=UTC0 scripts/sandbox $(CARGO) bench --locked --offline -p portknock-tests

test-packages: install-deps-packages ## install, use, upgrade and purge the Debian packages on a dedicated Debian; needs root
	scripts/test-packages

test-vm: install-deps-vm ## test the packages in a virtual machine with systemd: reboots, firewalls, knockd; needs root
	scripts/test-vm

dist: install-deps-packages ## build the files of a release: packages, wheel, source, checksums
	scripts/build-dist

wheel: install-deps ## build the Python package, which includes libpcap, and its source package
	scripts/build-wheel

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system

install: ## install the C library in PREFIX (/usr/local), below DESTDIR for packagers
	@# Under sudo there may be no cargo in PATH: then the existing build is installed.
	@if command -v $(CARGO) >/dev/null; then $(CARGO) build --locked --release -p portknock-ffi; fi
	scripts/install-library $(BUILT) $(PREFIX) "$(DESTDIR)" $(LIBDIR)

install-programs: ## install daemon, clients and manual in PREFIX, the configuration in SYSCONFDIR, below DESTDIR
	@if command -v $(CARGO) >/dev/null; then $(CARGO) build --locked --release -p portknock-cli -p portknockd; fi
	scripts/install-programs $(BUILT) $(PREFIX) $(SYSCONFDIR) $(UNITDIR) "$(DESTDIR)"

deb: install-deps-packages ## build the Debian packages
	scripts/build-deb

install-deps: ## install missing system packages
	@scripts/install-deps

install-deps-packages:
	@scripts/install-deps packages

install-deps-vm:
	@scripts/install-deps vm

clean: ## remove all build results
	$(CARGO) clean

.PHONY: help demo lint check test golden test-python fuzz coverage mutants bench test-packages test-vm wheel install install-programs deb dist install-deps install-deps-packages install-deps-vm clean
