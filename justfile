# A memo of what there is; `cargo xtask` does the work.
check:
    cargo clippy --release --workspace --all-targets -- -D warnings
test:
    cargo xtask test
demo:
    cargo run --release -- demo
ci:
    cargo xtask ci
fuzz:
    cargo xtask fuzz
bench:
    python3 bench/run.py
