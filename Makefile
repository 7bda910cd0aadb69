# bootstorm. Two commands matter: make demo, make test. Both install what they need on a fresh
# Debian when run as root; without root they say what is missing.

CARGO := packaging/build/cargo
NEEDS := packaging/build/needs
# A newer cargo-deny is a change to make on purpose: it brings new checks.
CARGO_DENY_VERSION := 0.20.2
# It takes minutes to build: it is kept outside of this checkout, for the next one.
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bootstorm/cargo-deny-$(CARGO_DENY_VERSION)
CARGO_DENY := $(TOOLS)/bin/cargo-deny

.DEFAULT_GOAL := help
.PHONY: help build demo storm test check unit e2e deny simulate simulate-mutants fuzz fresh moving soak deb bench versus clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

build: ## the server and the load generator, optimised: target/release/bootstorm, bootstorm-load
	$(NEEDS) rust
	$(CARGO) build --release --locked -p bootstorm -p bootstorm-loadgen

demo: build ## a machine in QEMU boots from bootstorm, line by line (FIRMWARE=bios for the other)
	$(NEEDS) boot
	BOOTSTORM=target/release/bootstorm demo/run $(or $(FIRMWARE),uefi)

storm: build ## 10,000 simulated machines boot from bootstorm (SCENARIO=row-500, ... for others)
	$(NEEDS) lab
	BOOTSTORM=target/release/bootstorm BOOTSTORM_LOAD=target/release/bootstorm-load \
	    demo/storm $(or $(SCENARIO),hall-10k)

# The end-to-end tests come last: their sum is the last line.
test: check unit deny e2e ## everything that must hold at every commit

check: ## format, lints, widths and lengths
	$(NEEDS) rust lab
	tests/style
	simulation/mutants --check
	tests/e2e/mutants --check
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

unit: ## unit and property tests
	$(NEEDS) rust lab
	$(CARGO) test --workspace --locked

e2e: ## real firmware and real clients in network namespaces
	$(NEEDS) rust boot clients browser
	$(CARGO) build --locked -p bootstorm -p bootstorm-loadgen --bins --example report-pages
	tests/e2e/run

deny: $(CARGO_DENY) ## licences, sources and bans of the dependencies
	PATH="$(TOOLS)/bin:$$PATH" $(CARGO) deny --locked check bans licenses sources

# Unoptimised it builds three times faster, and a check still takes only seconds.
$(CARGO_DENY):
	$(NEEDS) rust
	CARGO_TARGET_DIR=target/tools/build CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 \
	    $(CARGO) install --debug --locked --root $(TOOLS) \
	    --version $(CARGO_DENY_VERSION) cargo-deny
	rm -rf target/tools

# One seed determines a whole run. SECONDS bounds the time, SEEDS the seeds.
simulate: ## the whole server under a virtual clock, with faults (SEEDS=0..100000, SECONDS=600)
	$(NEEDS) rust
	$(CARGO) build --profile simulation --locked -p bootstorm-simulation
	target/simulation/simulate --seeds $(or $(SEEDS),0..10000) \
	    $(if $(SECONDS),--seconds $(SECONDS)) $(ARGUMENTS)

simulate-mutants: ## slow: servers that break their promise, which the simulation must catch
	$(NEEDS) rust
	simulation/mutants

fuzz: ## what reads files and messages of others, fed with damaged ones (SECONDS=60 for each target)
	$(NEEDS) rust
	$(CARGO) build --profile simulation --locked -p bootstorm-fuzz
	target/simulation/fuzz --seconds $(or $(SECONDS),60) $(ARGUMENTS)

fresh: ## slow: make demo and make test in a bare Debian, as README promises
	tests/fresh

moving: build ## slow: dhcpd with 100,000 leases is replaced while machines renew, and put back
	$(NEEDS) clients
	BOOTSTORM=target/release/bootstorm BOOTSTORM_LOAD=target/release/bootstorm-load \
	    tests/e2e/test_switching.py 10000 240 90000
	BOOTSTORM=target/release/bootstorm tests/e2e/test_moving.py 100000

soak: ## slow: 100 kills under load, 20 power cuts on each file system, dhcpd's language, and mutants
	$(NEEDS) rust clients
	$(CARGO) build --locked -p bootstorm
	tests/e2e/test_kill9.py 100
	tests/e2e/test_power_cut.py 20
	tests/e2e/test_class_expressions.py 500
	tests/e2e/test_dhcpd_differential.py 500
	tests/e2e/mutants

deb: build ## target/deb/bootstorm_VERSION_ARCH.deb
	$(NEEDS) deb
	packaging/deb/build

bench: ## criterion benches, and the instructions of a DORA
	$(NEEDS) rust bench
	$(CARGO) bench --locked

versus: build ## bootstorm beside its peers: under perfdhcp, and in the same storms
	$(NEEDS) peers
	$(CARGO) build --release --locked -p bootstorm-bench
	bench/versus/leases.py
	bench/versus/dhcp.py
	bench/versus/generator.py
	bench/versus/tftp.py
	bench/versus/tftp.py --dhcp
	bench/versus/storms.py --all

clean: ## removes what was built
	$(CARGO) clean
