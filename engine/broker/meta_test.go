package broker_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
)

// TestMetaCutOff holds that a stream survives a power cut between the two files
// that its configuration is written to: the server alone would not see it again.
func TestMetaCutOff(t *testing.T) {
	for name, damage := range map[string]func(sum string) error{
		"the first time":       os.Remove,
		"when it was changed":  func(sum string) error { return os.WriteFile(sum, []byte("0123456789abcdef"), 0o600) },
		"nothing was cut off":  func(string) error { return nil },
		"an empty second file": func(sum string) error { return os.Truncate(sum, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a [strange] *name?")
			created, _ := streamIn(t, dir, true)
			sums, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", "jetstream", "*", "streams", "S", "meta.sum"))
			if err != nil || len(sums) != 1 {
				t.Fatalf("the server keeps %q (%v), want one meta.sum", sums, err)
			}
			before, err := os.ReadFile(sums[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(sums[0]); err != nil {
				t.Fatal(err)
			}
			again, msgs := streamIn(t, dir, false)
			if !again.Equal(created) || msgs != 1 {
				t.Errorf("the stream is of %v with %d messages, want %v and 1", again, msgs, created)
			}
			after, err := os.ReadFile(sums[0])
			if err != nil || string(after) != string(before) {
				t.Errorf("meta.sum is %q (%v), want %q as the server wrote it", after, err, before)
			}
		})
	}
}

// streamIn runs a broker, in which stream S has one message, and stops it.
func streamIn(t *testing.T, dir string, first bool) (created time.Time, msgs uint64) {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{Name: "a", Domain: "a", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	nc := connect(t, func() (*nats.Conn, error) { return b.Connect("test") })
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if first {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), "s", []byte("kept")); err != nil {
			t.Fatal(err)
		}
	}
	s, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Created, s.CachedInfo().State.Msgs
}
