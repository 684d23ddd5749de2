package store

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func drawPack(t *rapid.T) *pack {
	text := rapid.SliceOfN(rapid.Byte(), 0, 40)
	p := &pack{
		first:  rapid.Uint64Range(1, 1<<40).Draw(t, "first"),
		commit: text.Draw(t, "commit"), outbox: text.Draw(t, "outbox"), entries: []Entry{},
	}
	subjects := []string{"log.a.t.d1", "log.a.t.d2", "log.a."}
	for range rapid.IntRange(0, 20).Draw(t, "entries") {
		p.entries = append(p.entries, Entry{Subject: rapid.SampledFrom(subjects).Draw(t, "subject"), Data: text.Draw(t, "data")})
	}
	for range rapid.IntRange(0, 3).Draw(t, "states") {
		p.states = append(p.states, packState{
			name: rapid.StringN(0, 8, 8).Draw(t, "name"), prev: rapid.Uint64Range(0, 1<<40).Draw(t, "prev"),
			chunks: rapid.SliceOfN(text, 0, 3).Draw(t, "chunks"),
		})
	}
	return p
}

func TestPacksComeBackAndDamageIsNoticed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawPack(t)
		data := encodePack(want, "log")
		got, err := decodePack(data, "log")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(pack{}, packState{})); diff != "" {
			t.Fatal(diff)
		}
		bad := bytes.Clone(data)
		bad[rapid.IntRange(0, len(bad)-1).Draw(t, "at")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		if _, err := decodePack(bad, "log"); !errors.Is(err, errDamaged) {
			t.Fatalf("a flipped bit gave %v", err)
		}
		cut := data[:rapid.IntRange(0, len(data)-1).Draw(t, "cut")]
		if _, err := decodePack(cut, "log"); !errors.Is(err, errDamaged) {
			t.Fatalf("a torn pack gave %v", err)
		}
	})
}

// FuzzDecodePack: foreign bytes never panic nor make the decoder reserve more
// than they are long, even where the checksum is right.
func FuzzDecodePack(f *testing.F) {
	f.Add(encodePack(&pack{first: 1, commit: []byte("{}"), entries: []Entry{{Subject: "log.a", Data: []byte("x")}}}, "log"))
	f.Add(encodePack(&pack{first: 1, states: []packState{{name: "a", prev: 7, chunks: [][]byte{{1}, {2}}}}}, "log"))
	f.Add([]byte(packMagicState + "\x01\x00\x00\xff\xff\xff\xff\x0f\x00"))
	f.Add([]byte(packMagic + "\x01\x00\x00\xff\xff\xff\xff\x0f\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := decodePack(data, "log"); err == nil && len(p.entries) > len(data) {
			t.Errorf("%d entries in %d bytes", len(p.entries), len(data))
		}
		sealed := sealPack(data)
		p, err := decodePack(sealed, "log")
		if err != nil {
			return
		}
		again, err := decodePack(encodePack(p, "log"), "log")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, again, cmp.AllowUnexported(pack{})); diff != "" {
			t.Error(diff)
		}
	})
}

func BenchmarkEncodePack(b *testing.B) {
	p := &pack{first: 1, commit: []byte("{}")}
	for i := range 1000 {
		p.entries = append(p.entries, Entry{Subject: []string{"log.a.t.d1", "log.a.t.d2"}[i%2], Data: make([]byte, 250)})
	}
	for b.Loop() {
		encodePack(p, "log")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/entry")
}

func BenchmarkDecodePack(b *testing.B) {
	p := &pack{first: 1, commit: []byte("{}")}
	for range 1000 {
		p.entries = append(p.entries, Entry{Subject: "log.a.t.d1", Data: make([]byte, 250)})
	}
	data := encodePack(p, "log")
	for b.Loop() {
		if _, err := decodePack(data, "log"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/entry")
}
