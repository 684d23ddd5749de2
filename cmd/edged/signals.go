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

// onReloadSignal calls reload, once at a time, when the process is asked to load
// its configuration anew, until the returned function is called; that waits for a
// call that runs.
func onReloadSignal(reload func()) (release func()) {
	if len(reloadSignals) == 0 {
		return func() {}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, reloadSignals...)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-signals:
				reload()
			case <-stop:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(stop)
		<-stopped
	}
}
