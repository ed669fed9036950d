# What is done every day; `just` alone lists it. Everything here is plain cargo: read it and run it by hand without just.

_default:
    @just --list --unsorted

# What must be clean before a commit: format, lints, docs, tests.
check: fmt-check lint doc test

# Every test of the workspace; `just test -p waypost router` for some of them.
test *ARGS='--workspace':
    cargo test --locked {{ ARGS }}

# For three quarters of an hour, in a release build: reloads, upgrades, random histories and faults; docs/reliability.md.
soak: && (chaos "--seed" "1" "--minutes" "20")
    cargo test --release --locked -p waypost --test process -- --ignored --nocapture thousand_reloads
    cargo test --release --locked -p waypost --test process -- --ignored --nocapture measured_reloads
    cargo test --release --locked -p waypost-tests --test e2e -- --ignored --nocapture hundred_reloads
    cargo test --release --locked -p waypost --test process -- --ignored --nocapture twenty_upgrades
    WAYPOST_PROPERTY_SEEDS=10000 cargo test --release --locked -p waypost-tests --test properties

# Every fuzz target, SECONDS (60) each; needs nightly and cargo-fuzz; `just fuzz 300 http1`; docs/reliability.md.
fuzz *ARGS:
    tests/fuzz/run {{ ARGS }}

# What each inner room costs, in nanoseconds; `just bench router` for one of them.
bench *ROOM:
    cargo bench --locked -p waypost --bench rooms -- {{ ROOM }}

# The binary that is shipped, target/pgo/waypost: optimised by a profile of its own work.
release:
    proxy/pgo

# A Debian package of target/release/waypost, or `just deb target/pgo/waypost`; docs/guides/operating.md.
deb *ARGS:
    proxy/deb {{ ARGS }}

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

# Advisories, licences, banned and doubled crates, sources; needs cargo-deny. Without a network: `just deny bans licenses sources`.
deny *WHICH:
    cargo deny --locked check {{ WHICH }}

# Everything on ports of its own, without a file.
demo:
    cargo run --release --locked -- demo

# The Compose example, brought up, driven and taken down; needs a Docker engine.
containers:
    tests/compose/run

# The pictures in docs/images, of a fleet that is watched for a quarter of an hour; needs chromium and chromium-driver.
pictures:
    cargo test --locked -p waypost-tests --test e2e -- --ignored --nocapture pictures_of_the_docs

# All that CI does, the container test too.
ci:
    .ci/run
