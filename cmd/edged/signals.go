package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignal returns a context that ends with the first SIGINT or SIGTERM,
// after first was called with its name. A second signal ends the process at
// once: that is as safe as a power cut, because nothing is acknowledged before
// it is fsynced (I1). The returned function gives the signals back.
func untilSignal(parent context.Context, first func(name string)) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case s := <-signals:
			first(s.String())
			cancel()
		case <-stop:
			return
		}
		select {
		case <-signals:
			os.Exit(exitInterrupted)
		case <-stop:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(stop)
		<-stopped
		cancel()
	}
}
