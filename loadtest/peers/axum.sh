#!/bin/sh
# An axum server on tokio. Needs: a Rust toolchain and its crates; it is built when the table is made, not before.
# SKIP_AXUM=1 leaves it out.
here=$(cd "$(dirname "$0")" && pwd)
[ -z "${SKIP_AXUM:-}" ] || { echo "left out by SKIP_AXUM" >&2; exit 77; }
binary=$here/axum/target/release/peer-axum
if [ "${1:-}" = check ]; then
    command -v cargo >/dev/null || { echo "cargo is not installed" >&2; exit 77; }
    cargo build --quiet --release --manifest-path "$here/axum/Cargo.toml" --target-dir "$here/axum/target" >&2 ||
        { echo "axum could not be built" >&2; exit 77; }
    exit 0
fi
ulimit -n "$(ulimit -Hn)"
exec "$binary"
