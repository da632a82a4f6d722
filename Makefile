# mcr: build, try, test, release. `make help` lists the targets.
#
# Nothing is set up by hand. A target first brings what it lacks: system packages (through apt, only with root or
# sudo), Bun (into .tool/), npm packages (into node_modules/). What is there already is left alone, so the second
# run starts at once. Everything that is built goes to dist/.

.DEFAULT_GOAL := dist/mcr
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# ---- What the command line can change --------------------------------------------------------------------------

# make test TESTS="rule reload": only the test files whose path contains one of these words
# MCR_TEST_SETTINGS='profile = "latency"' make test TESTS=acceptance: a variant; test/support/variant.ts has them all
TESTS =
# make bench-compare BEFORE=path/to/mcr ROWS="exclusive,p50": only the rows whose name contains one of these
BEFORE =
ROUNDS = 11
ROWS =
# make fuzz FUZZ_SECONDS=600: how long each fuzzer runs
FUZZ_SECONDS = 60
# make differential SECONDS=600 SEED=7: how long, and the first seed; without one every run has another
SECONDS = 60
SEED =

# ---- Names, and what is where ----------------------------------------------------------------------------------

goals := $(or $(MAKECMDGOALS),$(.DEFAULT_GOAL))
machine := $(shell uname -m)
ifeq ($(filter x86_64 aarch64,$(machine)),)
$(error mcr runs on x86_64 and aarch64, this machine is $(machine))
endif
field = $(shell sed -n 's/^ *"$(1)": *"\([^"]*\)".*/\1/p' package.json)
version := $(call field,version)

# package.json is the one place that pins Bun: "packageManager": "bun@1.2.3".
bun_version := $(patsubst bun@%,%,$(call field,packageManager))
bun_package := @oven/bun-linux-$(if $(filter x86_64,$(machine)),x64,$(machine))
BUN := $(shell [ "$$(bun --version 2>/dev/null)" = "$(bun_version)" ] && command -v bun)
ifeq ($(BUN),)
BUN := $(CURDIR)/.tool/bun-$(bun_version)/bun
# Scripts that say `bun` shall find this one.
export PATH := $(dir $(BUN)):$(PATH)
endif

# Directories are listed with their files: their time changes when a file is removed or renamed.
ts_sources := $(shell find src -name '*.ts' -o -type d)
c_sources := $(wildcard c/*.c)
measure_sources := $(wildcard c/measure/*.c)
c_headers := $(wildcard c/*.h c/measure/*.h)
shims := dist/libmcr.so dist/libmcr-measure.so
c_tests := $(patsubst %.c,dist/%,$(wildcard test/c/*.c))
traffic_tools := $(patsubst test/traffic/%.c,dist/test/%,$(wildcard test/traffic/*.c))
fuzzers := $(patsubst test/fuzz/%.c,dist/fuzz/%,$(wildcard test/fuzz/*.c))
c_formatted := $(wildcard c/*.[ch] c/measure/*.[ch] test/*/*.[ch])

c_flags := -std=gnu11 -Wall -Wextra -Werror -Ic

# ---- The executable --------------------------------------------------------------------------------------------

# The two --no-compile-autoload flags keep mcr, which runs as root, from executing a bunfig.toml or reading an
# .env that lies in its current directory. Bytecode halves the start-up time; it needs --format=esm.
dist/mcr: $(ts_sources) package.json bun.lock Makefile $(shims) node_modules/.installed ## build the executable, dist/mcr
	@mkdir -p $(@D)
	$(BUN) build --compile --no-compile-autoload-dotenv --no-compile-autoload-bunfig \
		--minify --sourcemap --bytecode --format=esm src/main.ts src/worker.ts --outfile $@

# The C shim, and the instruments that only `mcr send` and `mcr receive` load, embedded in the executable. They are
# linked against nothing: libc's symbols are found in the process that loads them, so one file serves glibc and musl.
# Hence nothing that refers to one libc only (stack protector, fortified calls) or to libgcc (outlined atomics).
shim_flags := -O2 -shared -fPIC -fvisibility=hidden -nostdlib -fno-stack-protector -U_FORTIFY_SOURCE \
	$(if $(filter aarch64,$(machine)),-mno-outline-atomics)

dist/libmcr.so: c $(c_sources)
dist/libmcr-measure.so: c/measure $(measure_sources)
$(shims): $(c_headers) Makefile | packages
	@mkdir -p $(@D)
	$(CC) $(c_flags) $(shim_flags) -o $@ $(filter %.c,$^)

# ---- Trying and testing ----------------------------------------------------------------------------------------

.PHONY: demo test differential mutants abi check format bench bench-quick bench-compare profile fuzz dist clean help

demo: dist/mcr $(traffic_tools) ## relay 10 streams between network namespaces and count them at the far end
	$(BUN) test/demo/demo.ts

# test/run.ts runs `bun test`, which runs the C programs too, and ends with the line "N passed, N failed".
test: dist/mcr $(c_tests) $(traffic_tools) ## all tests: unit, C under ASan and UBSan, end to end in network namespaces
	@$(BUN) test/run.ts $(TESTS)

differential: dist/mcr $(traffic_tools) ## random frames into a running relay, compared with a model, SECONDS=60
	$(BUN) test/differential/main.ts --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

mutants: dist/mcr ## plant each mistake of test/differential/mutants in a copy, which the differential test has to find
	$(BUN) test/differential/mutants.ts $(TESTS)

bench: dist/mcr $(traffic_tools) ## measure mcr beside socat and kernel forwarding, 5 rounds; adds to test/bench/RESULTS.md
	$(BUN) test/bench/bench.ts --write

bench-quick: dist/mcr $(traffic_tools) ## every floor and aim in three rounds, in about five minutes; writes nothing, fails below a floor
	$(BUN) test/bench/bench.ts --quick

bench-compare: dist/mcr $(traffic_tools) ## measure BEFORE=path/to/mcr beside this one, ROUNDS=11; fails where a median is worse by more than 3 %
	$(BUN) test/bench/compare.ts --before "$(BEFORE)" --rounds $(ROUNDS) --rows "$(ROWS)"

profile: dist/mcr dist/profile/libmcr.so $(traffic_tools) ## where a packet's time goes, by perf; adds to test/bench/RESULTS.md
	$(BUN) test/bench/profile.ts --write

# The shim's code once more, byte for byte, with the debug information that names inlined functions.
dist/profile/libmcr.so: dist/libmcr.so
	@mkdir -p $(@D)
	$(CC) $(c_flags) $(shim_flags) -g -o $@ $(c_sources)

# Built with the sanitizers, for the C test programs. Each has one part only: the relay's shim, or the instruments.
sanitized = $(patsubst c/%.c,dist/test/c/shim/%.o,$(1))
sanitized_objects := $(call sanitized,$(c_sources) $(measure_sources))
measure_tests := dist/test/c/instruments_test
sanitize := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

$(sanitized_objects): dist/test/c/shim/%.o: c/%.c $(c_headers) Makefile | packages
	@mkdir -p $(@D)
	$(CC) $(c_flags) $(sanitize) -c -o $@ $<

$(measure_tests): $(call sanitized,$(measure_sources))
$(filter-out $(measure_tests),$(c_tests)): $(call sanitized,$(c_sources))
$(c_tests): dist/test/c/%: test/c/%.c $(wildcard test/c/*.h) Makefile
	@mkdir -p $(@D)
	$(CC) $(c_flags) $(sanitize) -o $@ $< $(filter %.o,$^) -lpthread

# Senders and receivers of the end-to-end tests: plain kernel sockets, nothing of mcr.
$(traffic_tools): dist/test/%: test/traffic/%.c $(wildcard test/traffic/*.h) Makefile | packages
	@mkdir -p $(@D)
	$(CC) $(c_flags) -O2 -o $@ $< -lpthread

# A corpus grows in dist/fuzz/NAME.corpus; an input that breaks something is kept as dist/fuzz/NAME.crash-….
fuzz: $(fuzzers) ## fuzz frames, ring blocks, reassembly, the rule table, sending, received streams and scans with libFuzzer, FUZZ_SECONDS=60 each
	@for fuzzer in $(fuzzers); do \
		mkdir -p $$fuzzer.corpus; \
		$$fuzzer -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=$$fuzzer. $$fuzzer.corpus || exit 1; \
	done

measure_fuzzers := dist/fuzz/stream
$(measure_fuzzers): $(measure_sources)
$(filter-out $(measure_fuzzers),$(fuzzers)): $(c_sources)
$(fuzzers): dist/fuzz/%: test/fuzz/%.c $(wildcard test/fuzz/*.h test/c/*.h) $(c_headers) Makefile | packages
	@mkdir -p $(@D)
	clang $(c_flags) -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $@ $(filter %.c,$^)

# ---- The other side of the C headers ---------------------------------------------------------------------------

abi: node_modules/.installed | packages ## write src/native/abi.ts and src/native/measure/abi.ts, what the C headers say
	$(BUN) test/native/abi.ts

# ---- The look of the sources -----------------------------------------------------------------------------------

.PHONY: check-types check-style check-c check-c-style
check: check-types check-style check-c check-c-style ## types, lint and format of TypeScript and C (make format mends the format)

check-types: node_modules/.installed
	$(BUN) node_modules/typescript/bin/tsc --noEmit

check-style: node_modules/.installed
	$(BUN) node_modules/@biomejs/biome/bin/biome check --error-on-warnings

check-c: $(shims) $(c_tests) $(traffic_tools)

check-c-style: | packages
	clang-format --style=file:c/.clang-format --dry-run -Werror -ferror-limit=1 $(c_formatted)

format: node_modules/.installed ## rewrite the sources as `make check` wants them
	$(BUN) node_modules/@biomejs/biome/bin/biome check --write
	clang-format --style=file:c/.clang-format -i $(c_formatted)

# ---- Release ---------------------------------------------------------------------------------------------------

release := mcr-$(version)-linux-$(if $(filter aarch64,$(machine)),arm64,x64)

dist: dist/$(release).tar.gz ## the release archive for this architecture, with its SHA-256

# The same sources give the same bytes: no owner, no time, names in order. Never strip the executable: the program
# is appended to it as data, and strip would leave a bare Bun.
dist/$(release).tar.gz: dist/mcr LICENSE $(wildcard README.md)
	rm -rf dist/$(release)
	mkdir dist/$(release)
	cp $^ dist/$(release)
	tar -C dist --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - $(release) | gzip -n > $@
	rm -r dist/$(release)
	cd dist && sha256sum $(release).tar.gz | tee $(release).tar.gz.sha256

clean: ## remove dist/; the set-up (.tool/, node_modules/) stays, so the next build needs no network
	rm -rf dist

help: ## this list
	@awk -F ':.*## ' '/^[a-z\/-]+:.*## / { \
		sub("dist/mcr", "", $$1); printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ---- Set-up ----------------------------------------------------------------------------------------------------

# Each line tests for a tool itself, not for a package, so any distribution will do that has the tool; when it is
# missing, the line names the Debian packages that bring it.
needs_compiler = printf '\043include <stdio.h>\n\043include <linux/if_packet.h>\n' | $(CC) -E - >/dev/null 2>&1 || echo gcc libc6-dev
needs_bun = [ -x $(BUN) ] || command -v npm >/dev/null || echo npm ca-certificates
needs_ip = PATH=$$PATH:/usr/sbin:/sbin command -v ip >/dev/null || echo iproute2
needs_socat = command -v socat >/dev/null || echo socat
needs_smcroute = PATH=$$PATH:/usr/sbin:/sbin command -v smcrouted >/dev/null || echo smcroute
needs_perf = command -v perf >/dev/null || echo linux-perf; command -v addr2line >/dev/null || echo binutils
needs_tunnels = command -v wg >/dev/null || echo wireguard-tools; command -v wireguard-go >/dev/null || echo wireguard-go
needs_ethtool = PATH=$$PATH:/usr/sbin:/sbin command -v ethtool >/dev/null || echo ethtool
needs_curl = command -v curl >/dev/null || echo curl
needs_prometheus = command -v prometheus >/dev/null && command -v promtool >/dev/null || echo prometheus
needs_tmux = command -v tmux >/dev/null || echo tmux
needs_ffmpeg = command -v ffmpeg >/dev/null || echo ffmpeg
needs_format = command -v clang-format >/dev/null || echo clang-format
needs_clang = command -v clang >/dev/null && [ -e "$$(clang -print-file-name=libclang_rt.fuzzer-$(machine).a)" ] || echo clang libclang-rt-dev

# Only what the targets of this run need.
needs := $(needs_compiler)
needs += $(if $(filter-out fuzz,$(goals)),; $(needs_bun))
needs += $(if $(filter demo test differential bench bench-quick bench-compare profile,$(goals)),; $(needs_ip))
needs += $(if $(filter bench bench-quick,$(goals)),; $(needs_socat); $(needs_smcroute))
needs += $(if $(filter profile,$(goals)),; $(needs_perf))
needs += $(if $(filter test,$(goals)),; $(needs_curl); $(needs_socat); $(needs_tunnels); $(needs_ethtool); $(needs_prometheus); $(needs_tmux); $(needs_ffmpeg))
needs += $(if $(filter check format,$(goals)),; $(needs_format))
needs += $(if $(filter fuzz,$(goals)),; $(needs_clang))

.PHONY: packages
packages:
	@missing=$$(echo $$($(needs))); \
	[ -n "$$missing" ] || exit 0; \
	if ! command -v apt-get >/dev/null; then as_root=false; \
	elif [ "$$(id -u)" = 0 ]; then as_root=; \
	elif sudo -n true 2>/dev/null; then as_root='sudo -n'; \
	else as_root=false; fi; \
	$$as_root apt-get -q update && \
	$$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends $$missing || \
	{ echo "make: system packages are missing, please install them and make again: apt install $$missing" >&2; exit 1; }

# The package of this architecture holds the program itself; the package `bun` would only fetch it, by an install
# script that newer npm asks about.
ifneq ($(filter $(CURDIR)/%,$(BUN)),)
$(BUN): | packages
	npm install --prefix $(@D) --no-save --no-package-lock --no-audit --no-fund --loglevel=error \
		$(bun_package)@$(bun_version)
	ln -sf node_modules/$(bun_package)/bin/bun $@
endif

node_modules/.installed: package.json bun.lock | $(BUN)
	$(BUN) install --frozen-lockfile
	@touch $@
