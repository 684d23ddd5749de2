//go:build unix

package main

import (
	"os"
	"syscall"
)

// reloadSignals ask a running edge to load its configuration anew.
var reloadSignals = []os.Signal{syscall.SIGHUP}
