package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"
)

// arm is one side of a comparison. Each measurement runs in a process of its
// own, so that the heap, the caches and the garbage of one arm are not those of
// another.
type arm struct {
	name string
	run  func(ctx context.Context, a *armRun) (time.Duration, error)
}

// arms lists what `benchmarks arm <name>` can run.
func arms() []arm {
	return []arm{
		{"collect", collectArm},
		{"pipeline", pipelineArm},
		{"raw", rawArm},
		{"sqlite", sqliteArm},
		{"packed", packedArm},
		{"wasm", wasmArm},
		{"gjson", nativeArm(gjsonDewPoint)},
		{"scan", nativeArm(scanDewPoint)},
		{"rules", rulesArm},
		{"hclrules", hclRulesArm},
		{"ledger", ledgerArm},
		{"resolvewasm", resolveArm},
		{"resolvego", resolveGoArm},
		{"keyedput", keyedPutArm},
		{"bucketput", bucketPutArm},
		{"keyedcatchup", catchUpArm},
		{"keyedcatchupplain", catchUpPlainArm},
		{"bucketwatch", bucketWatchArm},
		{"extism", payloadArm(openExtism)},
		{"extismours", payloadArm(openExtismHere)},
		{"gofields", payloadArm(openFields)},
		{"gogjson", payloadArm(openGjson)},
		{"gojson", payloadArm(openJSON)},
	}
}

// armRun is the order for one measurement.
type armRun struct {
	Arm     string `json:"arm"`
	Data    string `json:"data"`
	Records int    `json:"records"`
	Alerts  int    `json:"alerts"`
	Target  string `json:"target,omitempty"`  // of an arm that sends: a hub's leaf URL
	Profile string `json:"profile,omitempty"` // folder for profiles
	dir     string // scratch, removed afterwards
}

// armResult is what one measurement gave.
type armResult struct {
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"per_second"`
	CPUSeconds float64 `json:"cpu_seconds"` // of the whole process, counting included
}

// start runs the order in a new process in scratch below work.
func (a armRun) start(ctx context.Context, work string) (r armResult, err error) {
	dir, err := os.MkdirTemp(work, a.Arm+"-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	order, err := json.Marshal(a)
	if err != nil {
		return r, err
	}
	exe, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, exe, "arm", dir, string(order))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("measuring %s: %w", a.Arm, err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("measuring %s: reading its result: %w", a.Arm, err)
	}
	r.CPUSeconds = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	return r, nil
}

// runArm is the other process: it measures once and prints the result.
func runArm(ctx context.Context, dir, order string) (err error) {
	var a armRun
	if err := json.Unmarshal([]byte(order), &a); err != nil {
		return fmt.Errorf("reading the order: %w", err)
	}
	a.dir = dir
	i := slices.IndexFunc(arms(), func(arm arm) bool { return arm.name == a.Arm })
	if i < 0 {
		return fmt.Errorf("there is no arm %q", a.Arm)
	}
	if a.Profile != "" {
		stop, err := profile(a.Profile, a.Arm)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	took, err := arms()[i].run(ctx, &a)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(armResult{
		Seconds: took.Seconds(), PerSecond: float64(a.Records) / took.Seconds(),
	})
}

// profile starts a CPU profile and returns what ends it and writes the
// allocations beside it.
func profile(dir, name string) (stop func() error, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	cpu, err := os.Create(filepath.Join(dir, name+".cpu.prof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		mem, err := os.Create(filepath.Join(dir, name+".mem.prof"))
		if err != nil {
			return errors.Join(err, cpu.Close())
		}
		runtime.GC()
		return errors.Join(pprof.Lookup("allocs").WriteTo(mem, 0), mem.Close(), cpu.Close())
	}, nil
}
