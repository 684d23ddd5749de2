package broker_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged/edged/engine/broker"
)

// damaged is a broker's directory with one stream of ten messages of 1 KiB.
func damaged(t *testing.T) (opts broker.Options, block string) {
	t.Helper()
	dir := t.TempDir()
	opts = broker.Options{Name: "e", Domain: "e", Dir: filepath.Join(dir, "js"), Quarantine: filepath.Join(dir, "quarantine")}
	withStream(t, opts, func(js jetstream.JetStream) {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if _, err := js.Publish(t.Context(), "s.a", append(fmt.Appendf(nil, "message %02d", i+1), make([]byte, 1014)...)); err != nil {
				t.Fatal(err)
			}
		}
	})
	return opts, filepath.Join(opts.Dir, "jetstream", "EDGED", "streams", "S", "msgs", "1.blk")
}

func withStream(t *testing.T, opts broker.Options, do func(js jetstream.JetStream)) {
	t.Helper()
	b, err := broker.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := b.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	do(js)
	nc.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// there returns which of the messages 1 to 10 can be read, and the last sequence.
func there(t *testing.T, opts broker.Options) (got []uint64, last uint64) {
	t.Helper()
	withStream(t, opts, func(js jetstream.JetStream) {
		s, err := js.Stream(t.Context(), "S")
		if err != nil {
			t.Fatal(err)
		}
		for seq := range uint64(10) {
			if msg, err := s.GetMsg(t.Context(), seq+1); err == nil && bytes.HasPrefix(msg.Data, fmt.Appendf(nil, "message %02d", seq+1)) {
				got = append(got, seq+1)
			}
		}
		last = s.CachedInfo().State.LastSeq
	})
	return got, last
}

func change(t *testing.T, path string, how func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, how(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Only what was hit is lost, the file is kept as it was, and no sequence is given
// out again.
func TestQuarantine(t *testing.T) {
	flip := func(message string, at int) func([]byte) []byte {
		return func(b []byte) []byte { b[bytes.Index(b, []byte(message))+at] ^= 4; return b }
	}
	for name, c := range map[string]struct {
		how           func([]byte) []byte
		want          []uint64
		after, before uint64
	}{
		"data":       {flip("message 05", 500), []uint64{1, 2, 3, 4, 6, 7, 8, 9, 10}, 4, 6},
		"header":     {flip("message 05", -22), []uint64{1, 2, 3, 4, 6, 7, 8, 9, 10}, 4, 6},
		"first":      {flip("message 01", 0), []uint64{2, 3, 4, 5, 6, 7, 8, 9, 10}, 0, 2},
		"last":       {flip("message 10", 0), []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9}, 9, 0},
		"cut off":    {func(b []byte) []byte { return b[:len(b)/2] }, []uint64{1, 2, 3, 4, 5}, 5, 0},
		"everything": {func(b []byte) []byte { clear(b); return b }, nil, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			opts, block := damaged(t)
			change(t, block, c.how)
			broken, err := os.ReadFile(block)
			if err != nil {
				t.Fatal(err)
			}
			got, last := there(t, opts)
			if fmt.Sprint(got) != fmt.Sprint(c.want) || last != 10 {
				t.Errorf("there are %v up to %d, want %v up to 10", got, last, c.want)
			}
			reports, err := broker.ReadQuarantine(opts.Quarantine)
			if err != nil || len(reports) != 1 {
				t.Fatalf("reports %+v, %v", reports, err)
			}
			if d := reports[0]; d.Stream != "S" || d.After != c.after || d.Before != c.before || d.Reason == "" || d.Settled {
				t.Errorf("the report says %+v, want damage between %d and %d", d, c.after, c.before)
			}
			kept, err := filepath.Glob(filepath.Join(opts.Quarantine, "*.blk"))
			if err != nil || len(kept) != 1 {
				t.Fatalf("kept %v, %v", kept, err)
			}
			if data, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(data, broken) {
				t.Errorf("what was set aside is not what was there: %v", err)
			}
			// Once is enough.
			if again, last := there(t, opts); fmt.Sprint(again) != fmt.Sprint(got) || last != 10 {
				t.Errorf("the next start has %v up to %d", again, last)
			}
			if reports, err := broker.ReadQuarantine(opts.Quarantine); err != nil || len(reports) != 1 {
				t.Errorf("the next start reports %+v, %v", reports, err)
			}
		})
	}
}

// What the server was deleting is nobody's any more.
func TestQuarantineLeavesDeletedStreamsAlone(t *testing.T) {
	opts, block := damaged(t)
	dir := filepath.Dir(filepath.Dir(block))
	if err := os.Rename(dir, filepath.Join(filepath.Dir(dir), ".S")); err != nil {
		t.Fatal(err)
	}
	withStream(t, opts, func(jetstream.JetStream) {})
	if reports, err := broker.ReadQuarantine(opts.Quarantine); err != nil || len(reports) != 0 {
		t.Errorf("reports %+v, %v", reports, err)
	}
}

// After a kill, what follows the last whole record is a write that was cut off:
// no damage, and nothing to keep.
func TestQuarantineOfTornTail(t *testing.T) {
	opts, block := damaged(t)
	if err := os.Remove(filepath.Join(opts.Dir, "clean.json")); err != nil {
		t.Fatal(err)
	}
	change(t, block, func(b []byte) []byte { return append(b, b[:700]...) })
	if got, _ := there(t, opts); len(got) != 10 {
		t.Errorf("there are %v", got)
	}
	if reports, err := broker.ReadQuarantine(opts.Quarantine); err != nil || len(reports) != 0 {
		t.Errorf("reports %+v, %v", reports, err)
	}
}
