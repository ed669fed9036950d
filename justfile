# What is done every day; `just` alone lists it. Everything here is plain cargo: read it and run it by hand without just.

_default:
    @just --list --unsorted

# What must be clean before a commit: format, lints, docs, tests.
check: fmt-check lint doc test

# Every test of the workspace; `just test -p waypost router` for some of them.
test *ARGS='--workspace':
    cargo test --locked {{ ARGS }}

# A hundred reloads within a minute, under full load, in a release build; prints what the load has seen.
soak:
    cargo test --release --locked -p waypost-tests --test e2e -- --ignored --nocapture hundred_reloads

# What each inner room costs, in nanoseconds; `just bench router` for one of them.
bench *ROOM:
    cargo bench --locked -p waypost --bench rooms -- {{ ROOM }}

# The binary that is shipped, target/pgo/waypost: optimised by a profile of its own work.
release:
    proxy/pgo

# What a request costs beside nginx, HAProxy and whatever else is on PATH; docs/guides/measuring.md.
compare *ARGS: release
    target/release/loadtest compare --waypost target/pgo/waypost {{ ARGS }}

# Faults, reloads and upgrades at random, and an audit; `just chaos --seed 17 --minutes 30`; docs/reliability.md.
chaos *ARGS:
    cargo build --release --locked -p waypost -p loadtest
    target/release/loadtest chaos --waypost target/release/waypost --write target/chaos {{ ARGS }}

# Brings every file into the one format.
fmt:
    cargo fmt --all

# Says what `fmt` would change.
fmt-check:
    cargo fmt --all --check

# Clippy with every warning as an error.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# The documentation of the crates, a broken link as an error.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --locked

# Licences, banned crates, sources; needs cargo-deny.
deny:
    cargo deny --locked check

# Everything on ports of its own, without a file.
demo:
    cargo run --release --locked -- demo

# The Compose example, brought up, driven and taken down; needs a Docker engine.
containers:
    tests/compose/run

# All that CI does, the container test too.
ci:
    .ci/run
