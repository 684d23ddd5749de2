#!/bin/sh
# Builds modules into a temporary directory and compares them, byte for byte, with
# what is committed: rebuilt.sh NAME BUILD COMMITTED. NAME is for what it says,
# BUILD the script that takes a directory, COMMITTED where the modules and their
# SHA256SUMS are.
set -eu
name=$1 build=$2 committed=$3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$build" "$tmp"
if ! cmp -s "$tmp/SHA256SUMS" "$committed/SHA256SUMS"; then
  echo "$name: the sources no longer make what is committed; run $name/build.sh" >&2
  diff "$committed/SHA256SUMS" "$tmp/SHA256SUMS" >&2 || true
  exit 1
fi
(cd "$committed" && sha256sum --quiet --check SHA256SUMS)
echo "$name: rebuilt and equal"
