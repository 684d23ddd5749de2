#!/bin/sh
# Rebuilds the modules of testdata/modules into a temporary directory and
# compares them, byte for byte, with what is committed and tested.
set -eu
sdk=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$sdk/build.sh" "$tmp"
if ! cmp -s "$tmp/SHA256SUMS" "$sdk/testdata/modules/SHA256SUMS"; then
  echo "sdk: the sources no longer make what is committed; run sdk/build.sh" >&2
  diff "$sdk/testdata/modules/SHA256SUMS" "$tmp/SHA256SUMS" >&2 || true
  exit 1
fi
(cd "$sdk/testdata/modules" && sha256sum --quiet --check SHA256SUMS)
echo "sdk: rebuilt and equal"
