package wasm

import (
	"errors"
	"fmt"
	"strings"
)

// FaultKind says what a plugin did wrong.
type FaultKind string

// The kinds of fault.
const (
	// FaultTrap is an instruction that cannot be executed: unreachable, a
	// division by zero, an access outside memory, a stack too deep, or an exit.
	FaultTrap FaultKind = "trap"
	// FaultTime is a call that took longer than Limits.Time.
	FaultTime FaultKind = "time"
	// FaultFuel is a call that used more than Limits.Fuel.
	FaultFuel FaultKind = "fuel"
	// FaultMemory is a guest that could not make room for its input.
	FaultMemory FaultKind = "memory"
	// FaultOutput is output larger than Limits.Output or Limits.RecordOutput.
	FaultOutput FaultKind = "output"
	// FaultFrame is an answer that is not as ABI v1 says.
	FaultFrame FaultKind = "frame"
	// FaultRecord is a well-formed answer with a record in it that is not valid.
	FaultRecord FaultKind = "record"
	// FaultHost is a panic in the host while it served the guest.
	FaultHost FaultKind = "host"
)

// Fault is an error that a plugin is to blame for.
type Fault struct {
	Kind FaultKind
	Err  error
}

// Error returns the kind and the cause.
func (f *Fault) Error() string { return string(f.Kind) + " fault: " + f.Err.Error() }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

func faultf(kind FaultKind, format string, args ...any) *Fault {
	return &Fault{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// trapText makes one line of wazero's error: what happened, and in which of
// the guest's functions.
func trapText(err error) string {
	text := strings.ReplaceAll(err.Error(), " (recovered by wazero)", "")
	what, trace, _ := strings.Cut(text, "\nwasm stack trace:\n")
	what, _, _ = strings.Cut(strings.TrimPrefix(what, "wasm error: "), "\n")
	top, _, _ := strings.Cut(strings.TrimSpace(trace), "\n")
	if top != "" {
		what += ", in " + top
	}
	return what
}

func asFault(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return nil
}
