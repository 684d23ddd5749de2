package keyed

import (
	"context"
	"sync"
	"time"
)

// queue holds the keys that are to be worked on, each at most once: a key that
// is worked on has its turn again when something came meanwhile.
type queue struct {
	mu     sync.Mutex
	due    []string
	items  map[string]*item
	closed bool
	wake   chan struct{} // has room for as many as wait
}

type item struct {
	queued, running bool
	again           bool    // what is parked gets another chance
	remote          *Remote // the newest that was seen of it
	attempt         int     // in a row that failed
}

func newQueue() *queue { return &queue{items: map[string]*item{}, wake: make(chan struct{}, 1)} }

// push makes a key due.
func (q *queue) push(key string, remote *Remote, again bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	it := q.items[key]
	if it == nil {
		it = &item{}
		q.items[key] = it
	}
	it.again = it.again || again
	if remote != nil && (it.remote == nil || it.remote.Revision < remote.Revision) {
		it.remote = remote
	}
	if it.queued {
		return
	}
	it.queued = true
	if !it.running {
		q.due = append(q.due, key)
		q.signal()
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// turn is one key to work on.
type turn struct {
	key     string
	remote  *Remote
	again   bool
	attempt int
}

// next waits for a key that is due; it returns an error when ctx ends.
func (q *queue) next(ctx context.Context) (turn, error) {
	for {
		q.mu.Lock()
		if len(q.due) > 0 {
			key := q.due[0]
			q.due = q.due[1:]
			it := q.items[key]
			t := turn{key: key, remote: it.remote, again: it.again, attempt: it.attempt}
			it.queued, it.running, it.remote, it.again = false, true, nil, false
			if len(q.due) > 0 {
				q.signal() // for the next worker
			}
			q.mu.Unlock()
			return t, nil
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-ctx.Done():
			return turn{}, ctx.Err()
		}
	}
}

// done ends a turn. A key that failed is due again after the wait.
func (q *queue) done(t turn, failed bool, wait time.Duration) {
	q.mu.Lock()
	it := q.items[t.key]
	it.running, it.attempt = false, 0
	if failed {
		it.attempt = t.attempt + 1
	}
	switch {
	case q.closed:
	case it.queued:
		q.due = append(q.due, t.key)
		q.signal()
	case failed:
		time.AfterFunc(wait, func() { q.push(t.key, t.remote, t.again) })
	default:
		delete(q.items, t.key)
	}
	q.mu.Unlock()
}

// close lets what comes later go nowhere.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}
