#!/bin/sh
# Runs the whole WebAssembly test suite that comes with wazero through the
# rewriter: every module that a test instantiates is metered first, and every
# assertion must still hold, compiled and interpreted. Works on a copy of
# wazero's source in a temporary directory. Takes about two minutes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
cp -R "$(cd "$here" && go list -m -f '{{.Dir}}' github.com/tetratelabs/wazero)" "$tmp/wazero"
chmod -R u+w "$tmp/wazero"
cd "$tmp/wazero"
mkdir internal/meter
for f in meter reader opcodes function; do cp "$here/$f.go" internal/meter/; done

# The suite's own host module keeps its name, which rewriting would leave out.
awk '
  /if compiled, err := r.CompileModule\(ctx, binary\); err != nil \{/ {
    print "\tif !MeterOff {\n\t\tif out, err := meter.Rewrite(binary); err == nil {\n\t\t\tbinary = out\n\t\t\tMetered++\n\t\t}\n\t}"
  }
  { print }
  /^import \(/ { print "\t\"github.com/tetratelabs/wazero/internal/meter\"" }
  END { print "\nvar MeterOff bool\nvar Metered, Refills int" }
' runtime.go > r.tmp && mv r.tmp runtime.go
suite=internal/integration_test/spectest
awk '
  /r.InstantiateWithConfig\(ctx, spectestWasm,/ {
    print "\t\trefill := api.GoModuleFunc(func(_ context.Context, _ api.Module, s []uint64) { s[0] = 37; wazero.Refills++ })"
    print "\t\tr.NewHostModuleBuilder(\"edged_meter\").NewFunctionBuilder().WithGoModuleFunction(refill, []api.ValueType{api.ValueTypeI64}, []api.ValueType{api.ValueTypeI64}).Export(\"refill\").Instantiate(ctx)"
    print "\t\twazero.MeterOff = true"; print; print "\t\twazero.MeterOff = false"; next
  }
  { print }
' $suite/spectest.go > s.tmp && mv s.tmp $suite/spectest.go
for version in v1 v2; do
  cat > $suite/$version/metered_test.go <<EOF
package $version

import (
	"fmt"
	"os"
	"testing"

	"github.com/tetratelabs/wazero"
)

func TestMain(m *testing.M) {
	code := m.Run()
	fmt.Println("metered modules:", wazero.Metered, "refills:", wazero.Refills)
	if wazero.Metered < 3000 || wazero.Refills == 0 {
		code = 1
	}
	os.Exit(code)
}
EOF
done
go test -v ./$suite/v1 ./$suite/v2 > suite.log 2>&1 || { grep -a -e '--- FAIL' suite.log | head -50; exit 1; }
grep -a -e '^metered' -e '^ok' suite.log
echo "assertions passed: $(grep -a -c -e '--- PASS' suite.log)"
