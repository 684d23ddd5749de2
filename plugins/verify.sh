#!/bin/sh
# Holds every plugin, which is embedded as it is committed, against its sources.
set -eu
plugins=$(cd "$(dirname "$0")" && pwd)
exec "$plugins/../sdk/rebuilt.sh" plugins "$plugins/build.sh" "$plugins"
