#!/bin/sh
# Rebuilds every plugin into a temporary directory and compares it, byte for
# byte, with what is committed and embedded.
set -eu
plugins=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$plugins/build.sh" "$tmp"
if ! cmp -s "$tmp/SHA256SUMS" "$plugins/SHA256SUMS"; then
  echo "plugins: the sources no longer make what is committed; run plugins/build.sh" >&2
  diff "$plugins/SHA256SUMS" "$tmp/SHA256SUMS" >&2 || true
  exit 1
fi
(cd "$plugins" && sha256sum --quiet --check SHA256SUMS)
echo "plugins: rebuilt and equal"
