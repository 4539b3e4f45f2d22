# What people type. Each target installs or names what it needs and is missing (.ci/install).
CARGO ?= cargo
OUT ?= out
TARGET ?= $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
BERTH = $(TARGET)/release/berth
DEVICE = x86_64-unknown-linux-gnu
CARGO_HOME_DIR = $(or $(CARGO_HOME),$(HOME)/.cargo)

# What the tool carries in itself; its build script reads them here.
export BERTH_ASSETS = $(TARGET)/assets

# Static, position independent, and without the names of this computer's directories.
DEVICE_FLAGS = -C target-feature=+crt-static -C link-arg=-Wl,--build-id=none \
	--remap-path-prefix=$(CURDIR)=berth --remap-path-prefix=$(CARGO_HOME_DIR)=cargo

.PHONY: berth run image kernel kernels older test test-long bench fuzz check clean assets python-tuf need-%

berth: assets
	$(CARGO) build --release -p berth

run: berth need-run need-kernel
	$(BERTH) run --out $(OUT)/demo $(shell [ -t 0 ] || echo --check)

image: berth need-kernel
	$(BERTH) build --out $(OUT)/demo

kernel: berth need-kernel
	$(BERTH) kernel

test: berth older kernels need-run need-test python-tuf
	$(CARGO) test --workspace

test-long: berth older kernels need-run need-test python-tuf
	BERTH_TEST_LONG=1 $(CARGO) test --workspace

bench: berth need-run need-kernel need-test need-bench
	$(CARGO) run --release -p berth-qemu-tests --bin bench -- --enforce $(PARTS)

# Each crate's tests/fuzz.rs: readers of untrusted bytes on hostile ones.
fuzz: need-rust
	BERTH_FUZZ_SECONDS=$(or $(BERTH_FUZZ_SECONDS),60) $(CARGO) test --profile fuzz --workspace \
		--test fuzz -- --nocapture

check: need-rust
	.ci/rules

clean:
	$(CARGO) clean
	rm -rf $(OUT)

DEVICE_BUILD = CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="$(DEVICE_FLAGS)" $(CARGO) build \
	--profile device --target $(DEVICE)

assets: need-rust need-assets
	$(DEVICE_BUILD) -p berth-init -p berth-demo
	.ci/assets $(TARGET)/$(DEVICE)/device $(BERTH_ASSETS)

# What the update tests update from: the machine's program, compiled otherwise, so that all of its
# code lies elsewhere.
older: need-rust
	CARGO_TARGET_DIR=$(TARGET)/older CARGO_PROFILE_DEVICE_LTO=off $(DEVICE_BUILD) -p berth-init

# Before the tests, which would have to share the computer with the compiler.
kernels: berth need-kernel
	$(BERTH) kernel
	$(BERTH) kernel --profile micro
	$(BERTH) kernel --kernel-version 6.12.115

python-tuf: need-test
	@.ci/python-tuf $(TARGET)

need-%:
	@.ci/install $*
