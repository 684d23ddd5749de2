package engine

import (
	"context"
	"errors"
)

// crew is what the parts of a running engine live by.
type crew struct {
	collecting context.Context // sources take no more when it ends
	hard       context.Context // what is in flight is cut off when it ends
	background context.Context // senders and monitors
}

// task is a goroutine that can be stopped by itself. A nil task has ended.
type task struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

func startTask(ctx context.Context, run func(context.Context)) *task {
	ctx, cancel := context.WithCancel(ctx)
	t := &task{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		defer cancel()
		run(ctx)
	}()
	return t
}

// stop ends the task and returns when it has.
func (t *task) stop() {
	if t != nil {
		t.cancel()
		<-t.ended
	}
}

// wait returns when the task has ended.
func (t *task) wait() {
	if t != nil {
		<-t.ended
	}
}

// begin starts the senders and the pipelines.
func (e *Engine) begin(c *crew) {
	e.changing.Lock()
	defer e.changing.Unlock()
	e.crew = c
	set := e.setup.Load()
	for _, r := range set.remotes {
		r.start(c)
	}
	for _, k := range set.syncs {
		k.start(c)
	}
	for _, p := range set.pipelines {
		e.startPipeline(c, p)
	}
}

// end waits for every pipeline, whose sources have been told to end. From now on
// nothing is changed any more.
func (e *Engine) end() error {
	e.changing.Lock()
	defer e.changing.Unlock()
	e.crew = nil
	var errs []error
	for _, p := range e.pipelines() {
		p.collecting.wait()
		errs = append(errs, p.failed)
	}
	return errors.Join(errs...)
}

// startPipeline runs the sources of one pipeline.
func (e *Engine) startPipeline(c *crew, p *pipeline) {
	p.collecting = startTask(c.collecting, func(ctx context.Context) { p.failed = e.collect(ctx, c.hard, p) })
}

// start runs what the remote does not run yet.
func (r *remote) start(c *crew) {
	if r.watching == nil {
		r.watching = startTask(c.background, r.monitor.Run)
	}
	if r.sending == nil {
		r.sending = startTask(c.background, r.sender.Run)
	}
}
