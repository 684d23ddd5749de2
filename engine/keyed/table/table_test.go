package table_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/keyed/table"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// start runs a broker and returns a way to open the table on it anew.
func start(t *testing.T, maxBytes int64) (open func() (*table.Table, map[string]string), crash func()) {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{Name: "e", Domain: "e", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	var nc *nats.Conn
	open = func() (*table.Table, map[string]string) {
		t.Helper()
		var err error
		if nc, err = b.Connect("test"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		seen := map[string]string{}
		tab, err := table.Open(within(t), nc, table.Options{Stream: "T", Subject: "t", MaxBytes: maxBytes, CacheBytes: 64 << 10}, func(name string, value []byte) {
			if value == nil {
				delete(seen, name)
			} else {
				seen[name] = string(value)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := tab.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return tab, seen
	}
	return open, func() { nc.Close() }
}

func put(t *testing.T, tab *table.Table, name, value string) {
	t.Helper()
	if err := tab.Update(within(t), func(tx *table.Tx) error {
		tx.Put(name, []byte(value))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestTable holds the table against a map, through many overwrites, removals,
// compactions and restarts.
func TestTable(t *testing.T) {
	open, crash := start(t, 32<<20)
	want := map[string]string{}
	for round := range 3 {
		tab, seen := open()
		if !maps.Equal(seen, want) {
			t.Fatalf("round %d begins with %d names, want %d", round, len(seen), len(want))
		}
		var mu sync.Mutex
		var writers sync.WaitGroup
		for w := range 8 {
			writers.Go(func() {
				for range 80 {
					name := fmt.Sprintf("%d-%d", w, rand.IntN(20))
					value := string(bytes.Repeat([]byte{byte('a' + rand.IntN(26))}, rand.IntN(40<<10)))
					gone := rand.IntN(5) == 0
					if err := tab.Update(t.Context(), func(tx *table.Tx) error {
						tx.Put(name+"-twin", []byte(value))
						if gone {
							tx.Delete(name)
						} else {
							tx.Put(name, []byte(value))
						}
						return nil
					}); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					want[name+"-twin"] = value
					if delete(want, name); !gone {
						want[name] = value
					}
					mu.Unlock()
				}
			})
		}
		writers.Wait()
		for _, name := range slices.Sorted(maps.Keys(want)) {
			got, err := tab.Get(within(t), name)
			if err != nil || string(got) != want[name] {
				t.Fatalf("%s has %d bytes, %v, want %d", name, len(got), err, len(want[name]))
			}
		}
		if used, live := tab.Used(); used > 2*live+8<<20 {
			t.Errorf("%d bytes for %d that count", used, live)
		}
		crash()
	}
}

// TestTransactions holds that one sees those before it, and that one that fails
// leaves nothing.
func TestTransactions(t *testing.T) {
	open, _ := start(t, 32<<20)
	tab, _ := open()
	put(t, tab, "n", "0")
	var adding sync.WaitGroup
	for range 50 {
		adding.Go(func() {
			if err := tab.Update(t.Context(), func(tx *table.Tx) error {
				v, err := tx.Get("n")
				if err != nil {
					return err
				}
				var n int
				if _, err := fmt.Sscan(string(v), &n); err != nil {
					return err
				}
				tx.Put("n", fmt.Append(nil, n+1))
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
	failed := errors.New("on purpose")
	if err := tab.Update(within(t), func(tx *table.Tx) error {
		tx.Put("n", []byte("lost"))
		tx.OnCommit(func() { t.Error("it was not committed") })
		return failed
	}); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if v, err := tab.Get(within(t), "n"); err != nil || string(v) != "50" {
		t.Errorf("n is %s, %v", v, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	ran := false
	if err := tab.Update(gone, func(*table.Tx) error { ran = true; return nil }); err != nil && !errors.Is(err, context.Canceled) || err == nil && !ran {
		t.Errorf("an update that was given up: %v, ran %v", err, ran)
	}
	if v, err := tab.Get(within(t), "none"); v != nil || err != nil {
		t.Errorf("%s, %v", v, err)
	}
}

// TestFull holds that the table says when it is full, goes on with what shrinks,
// and has room again.
func TestFull(t *testing.T) {
	open, _ := start(t, 2<<20)
	tab, _ := open()
	value := bytes.Repeat([]byte("x"), 50<<10)
	n := 0
	for ; tab.Room(len(value)) == nil; n++ {
		put(t, tab, fmt.Sprint(n), string(value))
	}
	if err := tab.Room(len(value)); !errors.Is(err, table.ErrFull) || n < 10 {
		t.Errorf("after %d values: %v", n, err)
	}
	for i := range 5 * n { // what is there may change, again and again
		put(t, tab, fmt.Sprint(i%n), string(value))
	}
	if err := tab.Update(within(t), func(tx *table.Tx) error {
		for i := range n {
			tx.Delete(fmt.Sprint(i))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := tab.Room(len(value)); err != nil {
		t.Errorf("empty, and %v", err)
	}
}
