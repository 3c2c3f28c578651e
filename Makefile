# `make` alone says what there is.

CARGO ?= cargo
# Where cargo puts what `make install` takes.
BUILT = $(or $(CARGO_TARGET_DIR),target)/release
# Debian keeps ip, iptables and knockd where only root's PATH looks.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | while IFS='|' read -r target text; do \
		printf '  make %-16s %s\n' "$$target" "$$text"; \
	done

demo: install-deps ## filtered, knock, open, closed again: the whole way, in two network namespaces
	$(CARGO) build --locked --bins
	scripts/sandbox scripts/demo

check: lint ## formatting, lints and unit tests
	$(CARGO) test --locked --workspace --exclude portknock-tests

# Always of the whole workspace: with other packages chosen cargo builds what they need with other features once more.
test: export RUSTDOCFLAGS := -D warnings
test: install-deps lint ## everything: check, documentation, a little fuzzing, end-to-end tests in a sandbox
	$(CARGO) test --locked --workspace --lib --bins
	$(CARGO) test --locked --workspace --doc
	$(CARGO) doc --locked --workspace --no-deps
	scripts/fuzz short
	$(CARGO) build --locked --workspace --lib --bins --tests --examples
	scripts/test-python
	@# They wait more than they work.
	RUST_TEST_THREADS=$$(($$(nproc) * 2)) scripts/sandbox $(CARGO) test --locked --offline --no-fail-fast --workspace \
		--examples --test '*'

lint: ## formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

test-python: install-deps ## the Python package alone, on every Python that is there
	$(CARGO) build --locked --workspace --lib --bins
	scripts/test-python

fuzz: install-deps ## throw hostile bytes at everything that reads bytes, FUZZ_SECONDS (300) for each target
	scripts/fuzz long

bench: install-deps ## measure speed and memory, beside the original knockd
	$(CARGO) bench --locked -p portknock-core
	$(CARGO) build --locked --release --workspace --lib --bins
	python=$$(scripts/bench-python) && \
	PORTKNOCK_PYTHON=$$python TZ=UTC0 scripts/sandbox $(CARGO) bench --locked --offline -p portknock-tests

test-packages: install-deps-packages ## install, use, upgrade and purge the Debian packages on a Debian of their own; needs root
	scripts/test-packages

test-vm: install-deps-vm ## the packages on a Debian with systemd in a virtual machine: reboots, firewalls, knockd; needs root
	scripts/test-vm

dist: install-deps-packages ## build all that a release ships: packages, wheel, source, checksums
	scripts/build-dist

wheel: install-deps ## build the Python package, with libpcap inside, and its source package
	scripts/build-wheel

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system

install: ## put the C library into PREFIX (/usr/local), behind DESTDIR for packagers
	@# sudo knows no cargo: then what was built before is installed.
	@if command -v $(CARGO) >/dev/null; then $(CARGO) build --locked --release -p portknock-ffi; fi
	scripts/install-library $(BUILT) $(PREFIX) "$(DESTDIR)" $(LIBDIR)

install-programs: ## put daemon, clients and manual into PREFIX, the configuration into SYSCONFDIR, behind DESTDIR
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

clean: ## remove what was built
	$(CARGO) clean

.PHONY: help demo lint check test test-python fuzz bench test-packages test-vm wheel install install-programs deb dist install-deps install-deps-packages install-deps-vm clean
