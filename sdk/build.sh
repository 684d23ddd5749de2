#!/bin/sh
# Builds the test plugins and examples of all SDKs but Go into the given
# directory, or testdata/modules. Needs what .ci/setup installs. The same sources
# give the same bytes anywhere.
set -eu
sdk=$(cd "$(dirname "$0")" && pwd)
out=${1:-$sdk/testdata/modules}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# What the documentation tells authors, and the templates' own files have.
c() {
  mkdir -p "$out/c"
  clang-19 --target=wasm32 -std=c11 -O3 -nostdlib -ffreestanding -mbulk-memory -Wall -Wextra -Werror \
    -Wl,--no-entry -Wl,--strip-all -Wl,--stack-first -Wl,-z,stack-size=131072 \
    -I "$sdk/c" "$sdk/c/$2" -o "$out/c/$1.wasm"
}
c vectors test/vectors.c
c merge test/merge.c
c readings examples/readings.c
c counter examples/counter.c
c fahrenheit template/transform/plugin.c
c work_order template/resolver/plugin.c

asc="node $sdk/assemblyscript/node_modules/assemblyscript/bin/asc.js"
(cd "$sdk/assemblyscript" && npm ci --silent --no-fund --no-audit)
mkdir -p "$out/assemblyscript"
cd "$sdk/.." # the compiler sees the same relative paths wherever the project lies
as() { $asc "sdk/assemblyscript/$2.ts" --config sdk/assemblyscript/asconfig.json -o "$out/assemblyscript/$1.wasm"; }
as vectors test/vectors &
as readings examples/readings
wait
as counter examples/counter &
# A template finds the SDK in edged/.
for pair in transform:fahrenheit resolver:work_order; do
  cp -R "sdk/assemblyscript/template/${pair%:*}" "$tmp/${pair#*:}"
  ln -s "$sdk/assemblyscript" "$tmp/${pair#*:}/edged"
  (cd "$tmp/${pair#*:}" && $asc index.ts --config asconfig.json -o "$out/assemblyscript/${pair#*:}.wasm")
done
wait

# Debian's own compiler, whatever else is installed: another makes other bytes.
(
  cd "$sdk/rust"
  case $(/usr/bin/rustc --version) in
    "rustc 1.63.0"*) ;;
    *) echo "sdk: the Rust modules are built with rustc 1.63.0, Debian 12's, not $(/usr/bin/rustc --version)" >&2; exit 1 ;;
  esac
  export RUSTC=/usr/bin/rustc CARGO_TARGET_DIR="$tmp/rust"
  export RUSTFLAGS="-C link-arg=-zstack-size=262144 --remap-path-prefix=$sdk/rust=edged"
  /usr/bin/cargo build --quiet --offline --release --target wasm32-unknown-unknown --examples
)
mkdir -p "$out/rust"
for name in counter fahrenheit merge readings vectors work_order; do
  cp "$tmp/rust/wasm32-unknown-unknown/release/examples/$name.wasm" "$out/rust/"
done

cd "$out"
chmod 644 */*.wasm
sha256sum */*.wasm > SHA256SUMS
