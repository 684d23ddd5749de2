#!/bin/sh
# Builds every plugin from the locked compiler into the given directory, or in
# place. Needs node and npm. The same sources give the same bytes anywhere.
set -eu
plugins=$(cd "$(dirname "$0")" && pwd)
out=${1:-$plugins}
sdk=$plugins/../sdk/assemblyscript
(cd "$sdk" && npm ci --silent --no-fund --no-audit)
# The compiler sees the same relative paths wherever the project lies.
cd "$plugins/.."
for dir in plugins/*/; do
  name=$(basename "$dir")
  [ -f "$dir/index.ts" ] || continue
  mkdir -p "$out/$name"
  echo "$name"
done | xargs -P "$(nproc)" -I NAME node sdk/assemblyscript/node_modules/assemblyscript/bin/asc.js "plugins/NAME/index.ts" \
  --config sdk/assemblyscript/asconfig.json -o "$out/NAME/NAME.wasm"
cd "$out"
sha256sum */*.wasm > SHA256SUMS
