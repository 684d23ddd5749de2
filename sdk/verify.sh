#!/bin/sh
# Holds the modules of testdata/modules, which the tests run, against their sources.
set -eu
sdk=$(cd "$(dirname "$0")" && pwd)
exec "$sdk/rebuilt.sh" sdk "$sdk/build.sh" "$sdk/testdata/modules"
