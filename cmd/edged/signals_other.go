//go:build !unix

package main

import "os"

// reloadSignals: there is none here; `edged reload` does without.
var reloadSignals []os.Signal
