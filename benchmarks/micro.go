package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/edged/edged/engine"
	"github.com/edged/edged/engine/alert"
	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
	"github.com/edged/edged/engine/record"
	"github.com/edged/edged/engine/wasm"
	"github.com/edged/edged/plugins"
)

// transformBatch is what a source hands a transform at once.
const transformBatch = 500

// microRecords parses the lines into memory.
func microRecords(a *armRun) ([]record.Record, error) {
	lines, err := readLines(a.Data, a.Records)
	if err != nil {
		return nil, err
	}
	records := make([]record.Record, len(lines))
	for i, line := range lines {
		if records[i], err = record.Parse(line); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// wasmArm runs the shipped dew point plugin, metered and sandboxed, as a
// pipeline does.
func wasmArm(ctx context.Context, a *armRun) (took time.Duration, err error) {
	records, err := microRecords(a)
	if err != nil {
		return 0, err
	}
	h, err := wasm.NewHost(ctx, wasm.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.Close(ctx)) }()
	code, _ := plugins.Builtin("dew_point")
	p, err := h.Load(ctx, wasm.Module{Name: "dew_point", Code: code})
	if err != nil {
		return 0, err
	}
	var out wasm.Output
	pass := func(records []record.Record) error {
		for len(records) > 0 {
			n := min(transformBatch, len(records))
			if err := p.Transform(ctx, records[:n], firstReading, &out); err != nil {
				return err
			}
			for i := range out.Results {
				if r := &out.Results[i]; r.Action != wasm.Emit || !bytes.Contains(r.Records[0].Payload, []byte(`"dew_point":`)) {
					return fmt.Errorf("the plugin gave %v: %s", r.Action, r.Reason)
				}
			}
			records = records[n:]
		}
		return nil
	}
	if err := pass(records[:len(records)/10]); err != nil { // warm up
		return 0, err
	}
	start := time.Now()
	err = pass(records)
	return time.Since(start), err
}

// nativeArm does the same in native Go, and the same check of the result.
func nativeArm(transform func(dst, payload []byte) ([]byte, error)) func(context.Context, *armRun) (time.Duration, error) {
	return func(_ context.Context, a *armRun) (time.Duration, error) {
		records, err := microRecords(a)
		if err != nil {
			return 0, err
		}
		var buf []byte
		pass := func(records []record.Record) error {
			for i := range records {
				if buf, err = transform(buf[:0], records[i].Payload); err != nil {
					return err
				}
				if !bytes.Contains(buf, []byte(`"dew_point":`)) {
					return fmt.Errorf("no dew point in %s", buf)
				}
			}
			return nil
		}
		if err := pass(records[:len(records)/10]); err != nil {
			return 0, err
		}
		start := time.Now()
		err = pass(records)
		return time.Since(start), err
	}
}

// dewPoint is the formula of the plugin.
func dewPoint(celsius, percents float64) float64 {
	const a, b = 17.625, 243.04
	g := math.Log(math.Min(percents, 100)/100) + a*celsius/(b+celsius)
	return round2(b * g / (a - g))
}

// gjsonDewPoint is what a Go programmer writes first.
func gjsonDewPoint(dst, payload []byte) ([]byte, error) {
	if !gjson.ValidBytes(payload) {
		return nil, errors.New("the payload is no JSON")
	}
	celsius, percents := gjson.GetBytes(payload, "temperature"), gjson.GetBytes(payload, "humidity")
	if celsius.Type != gjson.Number || percents.Type != gjson.Number {
		return nil, errors.New("a number is missing")
	}
	out, err := sjson.SetBytes(payload, "dew_point", dewPoint(celsius.Num, percents.Num))
	return append(dst, out...), err
}

// scanDewPoint makes one pass by hand and appends.
func scanDewPoint(dst, payload []byte) ([]byte, error) {
	celsius, percents := math.NaN(), math.NaN()
	err := record.EachMember(payload, func(key, value []byte) (err error) {
		switch string(key) {
		case "temperature":
			celsius, err = strconv.ParseFloat(string(value), 64)
		case "humidity":
			percents, err = strconv.ParseFloat(string(value), 64)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	dst = append(dst, payload[:bytes.LastIndexByte(payload, '}')]...)
	dst = append(dst, `,"dew_point":`...)
	dst = strconv.AppendFloat(dst, dewPoint(celsius, percents), 'f', -1, 64)
	return append(dst, '}'), nil
}

// rules are the two alert rules of the whole pipeline.
func rules() ([]config.Alert, error) {
	text := edgeFile{source: fileSource("/dev/null"), rules: true}.text()
	cfg, diags := config.Parse(map[string][]byte{"rules.hcl": []byte(text)}, engine.Catalog(), expr.Host{})
	if diags.HasErrors() {
		return nil, diags
	}
	return cfg.Pipelines[0].Alerts, nil
}

// rulesArm evaluates both rules on every record, messages of those that fire
// included: what a pipeline does. It counts evaluations: two a record.
func rulesArm(_ context.Context, a *armRun) (time.Duration, error) {
	records, err := microRecords(a)
	if err != nil {
		return 0, err
	}
	alerts, err := rules()
	if err != nil {
		return 0, err
	}
	ev := alert.New("motes", alerts, expr.Host{}).NewEvaluator()
	var messages []record.Message
	fired := 0
	start := time.Now()
	for i := range records {
		messages = ev.Append(messages[:0], &records[i])
		fired += len(messages)
	}
	took := time.Since(start)
	if fired != a.Alerts {
		err = fmt.Errorf("the rules fired %d times, want %d", fired, a.Alerts)
	}
	a.Records = len(alerts) * len(records)
	return took, err
}

// hclRulesArm evaluates the same conditions as HCL itself does: JSON to a cty
// value, once for a record, and the expression on it. It makes no messages.
func hclRulesArm(_ context.Context, a *armRun) (time.Duration, error) {
	lines, err := readLines(a.Data, a.Records)
	if err != nil {
		return 0, err
	}
	var conditions []hcl.Expression
	for _, src := range []string{
		fmt.Sprintf("record.payload.temperature > %v", hotCelsius),
		fmt.Sprintf(`record.payload.humidity > %v && record.data_type == "sensor_reading"`, dampPercents),
	} {
		e, diags := hclsyntax.ParseExpression([]byte(src), "rule.hcl", hcl.InitialPos)
		if diags.HasErrors() {
			return 0, diags
		}
		conditions = append(conditions, e)
	}
	fired := 0
	start := time.Now()
	for _, line := range lines {
		ty, err := ctyjson.ImpliedType(line)
		if err != nil {
			return 0, err
		}
		v, err := ctyjson.Unmarshal(line, ty)
		if err != nil {
			return 0, err
		}
		ctx := &hcl.EvalContext{Variables: map[string]cty.Value{"record": v}}
		for _, c := range conditions {
			is, diags := c.Value(ctx)
			if diags.HasErrors() {
				return 0, diags
			}
			if is.True() {
				fired++
			}
		}
	}
	took := time.Since(start)
	if fired != a.Alerts {
		err = fmt.Errorf("the rules fired %d times, want %d", fired, a.Alerts)
	}
	a.Records = len(conditions) * len(lines)
	return took, err
}
