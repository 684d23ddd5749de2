package collect

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/record"
)

func openedFile(t testing.TB, clock *stepClock, body string, args ...any) Source {
	t.Helper()
	s, err := openFile(testOptions(clock), parse(t, fileSpec(), body, args...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const motesCSV = "../../pipelines/data/sensors-multi-hop.csv"

const motesArgs = `
	path      = %q
	format    = "csv"
	columns   = { temperature = "number", humidity = "number", indoor = "bool" }
	device_id = "mote-${input.mote_id}"
	payload   = { reading = input.reading, temperature = input.temperature, humidity = input.humidity, indoor = input.indoor }`

func TestRealCSV(t *testing.T) {
	var sink memorySink
	if err := openedFile(t, newStepClock(), motesArgs, motesCSV).Run(t.Context(), nil, &sink); err != nil {
		t.Fatal(err)
	}
	all := sink.records()
	if len(all) != 18760 || len(sink.rejected()) != 0 {
		t.Fatalf("%d records, %d rejected", len(all), len(sink.rejected()))
	}
	diff(t, "first record", record.Record{
		ID: all[0].ID, DeviceID: "mote-1", DataType: "reading", Timestamp: newStepClock().Now(), Payload: all[0].Payload,
	}, all[0])
	diff(t, "first payload", `{"humidity":43.82,"indoor":false,"reading":"1","temperature":30.21}`, sorted(t, all[0].Payload))
}

// Whatever batch was the last durable one, a restart after it gives exactly
// the records behind it: 18,760 in all, each once, in order (I2, I4).
func TestRestartAfterEveryBatch(t *testing.T) {
	source := openedFile(t, newStepClock(), "path = %q\nformat = \"csv\"", motesCSV)
	var whole memorySink
	if err := source.Run(t.Context(), nil, &whole); err != nil {
		t.Fatal(err)
	}
	all := whole.records()
	ids := map[string]bool{}
	for _, r := range all {
		ids[r.ID] = true
	}
	if len(all) != 18760 || len(ids) != 18760 || len(whole.rejected()) != 0 {
		t.Fatalf("%d records with %d ids, %d rejected", len(all), len(ids), len(whole.rejected()))
	}
	content, err := os.ReadFile(motesCSV)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(content)), "\n")[1:] {
		f := strings.Split(line, ",")
		want := fmt.Sprintf(`{"reading":%q,"mote_id":%q,"indoor":%q,"humidity":%q,"temperature":%q,"label":%q}`, f[0], f[1], f[2], f[3], f[4], f[5])
		if got := string(all[i].Payload); got != want {
			t.Fatalf("record %d is %s, want %s", i, got, want)
		}
	}

	taken := 0
	for i, b := range whole.all() {
		if len(b.Records) > batchRecords {
			t.Errorf("batch %d has %d records", i, len(b.Records))
		}
		taken += len(b.Records)
		var rest memorySink
		if err := source.Run(t.Context(), b.Position, &rest); err != nil {
			t.Fatal(err)
		}
		if got := rest.records(); !slices.EqualFunc(all[taken:], got, sameRecord) {
			t.Fatalf("restarted after batch %d: %d records, want %d, and the same", i, len(got), len(all)-taken)
		}
	}
}

func sameRecord(a, b record.Record) bool {
	return a.ID == b.ID && a.DeviceID == b.DeviceID && a.DataType == b.DataType && a.Timestamp.Equal(b.Timestamp) && bytes.Equal(a.Payload, b.Payload)
}

// sorted gives a JSON object with its members in order.
func sorted(t *testing.T, object []byte) string {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(object, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// A crash after a batch was handed on and before it was durable repeats that
// batch from the position before it, with the same ids.
func TestCrashBeforeDone(t *testing.T) {
	var lines strings.Builder
	for i := range 3 * batchRecords {
		fmt.Fprintf(&lines, "{\"n\":%d}\n", i)
	}
	path := filepath.Join(t.TempDir(), "in.ndjson")
	write(t, path, lines.String())
	source := openedFile(t, newStepClock(), `path = %q`, path)

	ctx, crash := context.WithCancel(t.Context())
	first := &memorySink{held: true}
	first.refuse = func(n int) error {
		if n == 2 {
			crash()
			return ctx.Err()
		}
		return nil
	}
	if err := source.Run(ctx, nil, first); err != nil {
		t.Fatal(err)
	}
	durable, lost := first.all()[0], first.all()[1]

	var second memorySink
	if err := source.Run(t.Context(), durable.Position, &second); err != nil {
		t.Fatal(err)
	}
	got := second.records()
	if len(durable.Records)+len(got) != 3*batchRecords {
		t.Errorf("%d and %d records", len(durable.Records), len(got))
	}
	diff(t, "the repeated batch", lost.Records, got[:len(lost.Records)])
}

// sample runs a source over a file to its end.
func sample(t *testing.T, text, body string) *memorySink {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in")
	write(t, path, text)
	sink := &memorySink{}
	if err := openedFile(t, newStepClock(), "path = %q\n"+strings.ReplaceAll(body, "%", "%%"), path).Run(t.Context(), nil, sink); err != nil {
		t.Fatal(err)
	}
	return sink
}

func TestNDJSONFiles(t *testing.T) {
	long := `{"long":"` + strings.Repeat("x", 2000) + `"}`
	huge := `{"long":"` + strings.Repeat("x", 3*maxRead) + `"}`
	tests := []struct {
		name, text, args string
		want             []string
		rejected         []string // line, byte, and part of the error
		raw              []string
	}{
		{name: "empty file"},
		{name: "last line without an end", text: "{\"n\":1}\n{\"n\":2}", want: []string{`{"n":1}`, `{"n":2}`}},
		{name: "CRLF and blank lines", text: "\r\n{\"n\":1}\r\n\r\n  \n{\"n\":2}\r\n", want: []string{`{"n":1}`, `{"n":2}`}},
		{name: "byte order mark", text: "\xef\xbb\xbf{\"n\":1}\n", want: []string{`{"n":1}`}},
		{name: "byte order mark alone", text: "\xef\xbb\xbf"},
		{name: "half a byte order mark", text: "\xef\xbb", rejected: []string{"1 0 not valid JSON"}, raw: []string{"\xef\xbb"}},
		{
			name: "bad lines do not stop the others", text: "{\"n\":1}\n{\"n\":\r\n\xff\n[]\n{\"n\":2}\n",
			want: []string{`{"n":1}`, `{"n":2}`}, rejected: []string{"2 8 not valid JSON", "3 15 not valid JSON", "4 17 an object is expected"},
			raw: []string{`{"n":`, "\xff", "[]"},
		},
		{
			name: "long line", text: "{\"n\":1}\n" + long + "\n{\"n\":2}\n", args: `max_line = "1KiB"`,
			want: []string{`{"n":1}`, `{"n":2}`}, rejected: []string{"2 8 longer than max_line"}, raw: []string{long},
		},
		{
			name: "long last line", text: "{\"n\":1}\n" + long, args: `max_line = "1KiB"`,
			want: []string{`{"n":1}`}, rejected: []string{"2 8 longer than max_line"}, raw: []string{long},
		},
		{
			name: "line longer than what is read at once", text: "{\"n\":1}\n" + huge + "\n{\"n\":2}\n", args: `max_line = "1KiB"`,
			want: []string{`{"n":1}`, `{"n":2}`}, rejected: []string{"2 8 longer than max_line"}, raw: []string{huge},
		},
		{
			name: "long but allowed line", text: huge + "\n{\"n\":2}\n", args: `max_line = "2MiB"`,
			want: []string{huge, `{"n":2}`},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sink := sample(t, test.text, test.args)
			diff(t, "payloads", test.want, sink.payloads())
			checkRejected(t, sink, test.rejected, test.raw)
		})
	}
}

// checkRejected compares dead letters. Of a raw input that is longer than what
// is looked at or kept, it compares the beginning.
func checkRejected(t *testing.T, sink *memorySink, want, raw []string) {
	t.Helper()
	rejected := sink.rejected()
	if len(rejected) != len(want) {
		t.Fatalf("%d rejected, want %d: %v", len(rejected), len(want), rejected)
	}
	for i, d := range rejected {
		place, reason := d.Detail["line"]+" "+d.Detail["byte"]+" ", want[i]
		if !strings.HasPrefix(reason, place) || !strings.Contains(d.Error, strings.TrimPrefix(reason, place)) {
			t.Errorf("dead letter %d at %s: %s; want %q", i, place, d.Error, want[i])
		}
		kept := raw[i]
		if size, cut := d.Detail["bytes"]; cut {
			if size != fmt.Sprint(len(kept)) {
				t.Errorf("dead letter %d: %s bytes, want %d", i, size, len(kept))
			}
			kept = kept[:len(d.Raw)]
		}
		if string(d.Raw) != kept {
			t.Errorf("dead letter %d: raw %.60q, want %.60q", i, d.Raw, kept)
		}
	}
}

// Whatever a file holds, a restart after any batch gives exactly what the
// first run gave behind it, dead letters with their ids and places included.
func TestRestartAnywhere(t *testing.T) {
	good := map[string][]string{
		formatNDJSON: {"{\"n\":1}", "{\"n\":2}\r", "", " ", "{", "\xff", "[]", "{\"x\":\"" + strings.Repeat("x", 900) + "\"}", strings.Repeat("y", 1500), strings.Repeat("z", 20000), strings.Repeat("z", 40000) + "\r", "{\"id\":\"a\",\"payload\":{}}"},
		formatCSV:    {"1,2", "3,\r", "", "\"a\nb\",\"c\"\"\"", "\"lost", "1", "1,2,3", "\xff,1", "x\"y,1", "\"x\"y,1", strings.Repeat("x", 1500) + ",1", "\"" + strings.Repeat("x\n", 300) + "\",1", strings.Repeat("z", 20000), strings.Repeat("z", 40000) + "\r"},
	}
	rapid.Check(t, func(t *rapid.T) {
		format := rapid.SampledFrom([]string{formatNDJSON, formatCSV}).Draw(t, "format")
		usual := rapid.IntRange(1, 60).Draw(t, "usual lines between the others")
		var text strings.Builder
		if rapid.Bool().Draw(t, "byte order mark") {
			text.Write(byteOrderMark)
		}
		if format == formatCSV {
			text.WriteString("a,b\n")
		}
		for _, line := range rapid.SliceOfN(rapid.SampledFrom(good[format]), 0, 60).Draw(t, "lines") {
			text.WriteString(strings.Repeat(good[format][0]+"\n", usual))
			text.WriteString(line + "\n")
		}
		if rapid.Bool().Draw(t, "last line without an end") {
			text.WriteString(good[format][0])
		}
		dir, err := os.MkdirTemp("", "restart") //nolint:usetesting // rapid's t has no TempDir of its own for each case
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		}()
		path := filepath.Join(dir, "in")
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		run := func(position json.RawMessage) *memorySink {
			s, err := openFile(testOptions(newStepClock()), parseRestart(t, path, format))
			if err != nil {
				t.Fatal(err)
			}
			sink := &memorySink{}
			if err := s.Run(context.Background(), position, sink); err != nil {
				t.Fatal(err)
			}
			return sink
		}
		whole := run(nil)
		records, rejected := whole.records(), whole.rejected()
		for i, b := range whole.all() {
			records, rejected = records[len(b.Records):], rejected[len(b.Rejected):]
			rest := run(b.Position)
			if !slices.EqualFunc(records, rest.records(), sameRecord) {
				t.Fatalf("after batch %d: %d records, want %d, and the same", i, len(rest.records()), len(records))
			}
			if d := cmp.Diff(summaries(rejected), summaries(rest.rejected())); d != "" {
				t.Fatalf("after batch %d (-want +got):\n%s", i, d)
			}
		}
	})
}

// summaries tells dead letters in a line each.
func summaries(all []record.DeadLetter) []string {
	lines := make([]string, len(all))
	for i, d := range all {
		lines[i] = fmt.Sprintf("%s line %s byte %s: %s; %d bytes %.20q", d.ID, d.Detail["line"], d.Detail["byte"], d.Error, len(d.Raw), d.Raw)
	}
	return lines
}

func parseRestart(t *rapid.T, path, format string) config.Args {
	a, diags := config.ParseBlock(fileSpec(), fmt.Appendf(nil, "path = %q\nformat = %q\nmax_line = \"1KiB\"", path, format), "test.hcl")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return a
}

// A line far longer than max_line passes through bounded memory, and a restart
// right behind it goes on with the next.
func TestHugeLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in")
	write(t, path, "{\"n\":1}\n"+strings.Repeat("y", 5<<20)+"\n{\"n\":2}\n")
	source := openedFile(t, newStepClock(), `path = %q`, path)
	var sink memorySink
	if err := source.Run(t.Context(), nil, &sink); err != nil {
		t.Fatal(err)
	}
	diff(t, "payloads", []string{`{"n":1}`, `{"n":2}`}, sink.payloads())
	if d := sink.rejected(); len(d) != 1 || len(d[0].Raw) != maxRawBytes || d[0].Detail["bytes"] != fmt.Sprint(5<<20) || d[0].Detail["line"] != "2" {
		t.Fatalf("%d rejected, %v", len(d), d[0].Detail)
	}
	for i, b := range sink.all() {
		var rest memorySink
		if err := source.Run(t.Context(), b.Position, &rest); err != nil {
			t.Fatal(err)
		}
		var want []record.Record
		var wantIDs, gotIDs []string
		for _, later := range sink.all()[i+1:] {
			want = append(want, later.Records...)
			for _, d := range later.Rejected {
				wantIDs = append(wantIDs, d.ID)
			}
		}
		for _, d := range rest.rejected() {
			gotIDs = append(gotIDs, d.ID)
		}
		diff(t, fmt.Sprintf("records after batch %d", i), want, rest.records())
		diff(t, fmt.Sprintf("dead letters after batch %d", i), wantIDs, gotIDs)
	}
}

// logged runs a source and returns its log.
func logged(t *testing.T, position json.RawMessage, sink Sink, body string, args ...any) string {
	t.Helper()
	var log bytes.Buffer
	opts := testOptions(newStepClock())
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s, err := openFile(opts, parse(t, fileSpec(), body, args...))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), position, sink); err != nil {
		t.Fatal(err)
	}
	return log.String()
}

// A file that is no longer what the position was made of is reported and read
// from its beginning; one that only grew, or was copied, goes on.
func TestChangedFile(t *testing.T) {
	many := strings.Repeat("{\"n\":0}\n", 300)
	tests := []struct {
		name, before, after string
		want                []string
		replaced            bool
	}{
		{name: "nothing new", before: "{\"n\":1}\n", after: "{\"n\":1}\n"},
		{name: "grown", before: "{\"n\":1}\n", after: "{\"n\":1}\n{\"n\":2}\n", want: []string{`{"n":2}`}},
		{name: "truncated", before: "{\"n\":1}\n{\"n\":2}\n", after: "{\"n\":1}\n", want: []string{`{"n":1}`}, replaced: true},
		{name: "emptied", before: "{\"n\":1}\n", after: "", replaced: true},
		{name: "replaced by a longer one", before: "{\"n\":1}\n", after: "{\"n\":3}\n{\"n\":4}\n", want: []string{`{"n":3}`, `{"n":4}`}, replaced: true},
		{name: "same beginning, other middle", before: many + "{\"n\":1}\n", after: many + "{\"n\":5}\n", want: append(strings.Split(strings.TrimSuffix(many, "\n"), "\n"), `{"n":5}`), replaced: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "in")
			write(t, path, test.before)
			var before, after memorySink
			logged(t, nil, &before, `path = %q`, path)
			// A new file with a new inode, as a copy would be.
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			write(t, path, test.after)
			log := logged(t, before.position(), &after, `path = %q`, path)
			diff(t, "payloads", test.want, after.payloads())
			diff(t, "reported", test.replaced, strings.Contains(log, "truncated or replaced"))
			ids := map[string]bool{}
			for _, r := range before.records() {
				ids[r.ID] = true
			}
			for _, r := range after.records() {
				if ids[r.ID] {
					t.Errorf("the id %s is used again", r.ID)
				}
			}
		})
	}
}

func TestPositionsOfOthersAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in")
	write(t, path, "{}\n")
	for _, position := range []string{`{"generated":5}`, `[]`, `x`, `{"offset":-1,"line":0,"head":{"bytes":0},"tail":{"bytes":0}}`, `{"offset":1,"line":0,"head":{"bytes":2,"hash":""},"tail":{"bytes":0}}`} {
		err := openedFile(t, newStepClock(), `path = %q`, path).Run(t.Context(), json.RawMessage(position), &memorySink{})
		if err == nil || !strings.Contains(err.Error(), "new name") {
			t.Errorf("%s: %v", position, err)
		}
	}
}

func TestMissingFile(t *testing.T) {
	dir := t.TempDir()
	args := parse(t, fileSpec(), `path = "nothing.csv"`)
	opts := testOptions(newStepClock())
	opts.BaseDir = dir
	_, err := openFile(opts, args)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "nothing.csv")) || !strings.Contains(err.Error(), "create it or correct path at test.hcl") {
		t.Errorf("missing file: %v", err)
	}
	args = parse(t, fileSpec(), `path = %q`, dir)
	if _, err := openFile(opts, args); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: %v", err)
	}
	// Removed between Open and Run.
	path := filepath.Join(dir, "there")
	write(t, path, "")
	source := openedFile(t, newStepClock(), `path = %q`, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := source.Run(t.Context(), nil, &memorySink{}); err == nil || !strings.Contains(err.Error(), "create it") {
		t.Errorf("removed file: %v", err)
	}
}

// follower steps a following source through its polls.
type follower struct {
	t     *testing.T
	clock *stepClock
	sink  *memorySink
	seen  int
	path  string
}

func follow(t *testing.T, path, args string) *follower {
	t.Helper()
	f := &follower{t: t, clock: newStepClock().stepped(), sink: &memorySink{}, path: path}
	start(t, openedFile(t, f.clock, "path = %q\nfollow = true\n"+args, path), nil, f.sink)
	return f
}

// step waits until the source has nothing to do, compares what came since the
// last step, and lets it look again.
func (f *follower) step(want ...string) {
	f.t.Helper()
	select {
	case <-f.clock.asleep:
	case <-f.t.Context().Done():
		f.t.Fatal("the source does not wait")
	}
	all := f.sink.payloads()
	diff(f.t, "payloads", want, append([]string(nil), all[f.seen:]...))
	f.seen = len(all)
}

func (f *follower) wake() { f.clock.wake <- struct{}{} }

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.ndjson")
	f := follow(t, path, "")
	f.step() // no file yet
	write(t, path, "{\"n\":1}\n{\"n\"")
	f.wake()
	f.step(`{"n":1}`)
	f.wake()
	f.step() // the last line is not complete
	appendTo(t, path, ":2}\n")
	f.wake()
	f.step(`{"n":2}`)

	// Rotated by renaming: what the writer still adds to the old one counts.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	f.wake()
	f.step()
	appendTo(t, path+".1", "{\"n\":3}\n{\"n\":4}")
	write(t, path, "{\"n\":1}\n")
	f.wake()
	f.step(`{"n":3}`, `{"n":4}`, `{"n":1}`)

	// Truncated in place, then longer than before.
	write(t, path, "")
	f.wake()
	f.step()
	write(t, path, "{\"n\":6}\n{\"n\":7}\n")
	f.wake()
	f.step(`{"n":6}`, `{"n":7}`)
	// Truncated and already longer than before when the source looks again.
	write(t, path, "{\"n\":8}\n{\"n\":9}\n{\"n\":10}\n")
	f.wake()
	f.step(`{"n":8}`, `{"n":9}`, `{"n":10}`)

	ids := map[string]bool{}
	for _, r := range f.sink.records() {
		ids[r.ID] = true
	}
	diff(t, "different ids", len(f.sink.records()), len(ids))
	diff(t, "rejected", 0, len(f.sink.rejected()))
}

// A line longer than max_line that grows slowly is passed over when it ends.
func TestFollowHugeLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.ndjson")
	write(t, path, "{\"n\":1}\n"+strings.Repeat("z", 2000))
	f := follow(t, path, `max_line = "1KiB"`)
	f.step(`{"n":1}`)
	appendTo(t, path, strings.Repeat("z", 2000))
	f.wake()
	f.step()
	appendTo(t, path, "z\n{\"n\":2}\n")
	f.wake()
	f.step(`{"n":2}`)
	d := f.sink.rejected()
	if len(d) != 1 || string(d[0].Raw) != strings.Repeat("z", 4001) {
		t.Errorf("rejected %v", d)
	}
}

func TestFollowUntilEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.ndjson")
	write(t, path, "{\"n\":1}\n{\"n\":2}")
	opts := testOptions(newStepClock())
	opts.UntilEnd = true
	s, err := openFile(opts, parse(t, fileSpec(), "path = %q\nfollow = true", path))
	if err != nil {
		t.Fatal(err)
	}
	var sink memorySink
	if err := s.Run(t.Context(), nil, &sink); err != nil {
		t.Fatal(err)
	}
	diff(t, "payloads", []string{`{"n":1}`, `{"n":2}`}, sink.payloads())
}

// A file that is read for the first time was not replaced: no warning, and no
// new generation, which ids are made of.
func TestAFreshFileIsNotAReplacedOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.csv")
	if err := os.WriteFile(path, []byte("a\n1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	opts := testOptions(newStepClock())
	opts.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	source, err := openFile(opts, parse(t, fileSpec(), "path = %q\nformat = \"csv\"", path))
	if err != nil {
		t.Fatal(err)
	}
	var sink memorySink
	if err := source.Run(t.Context(), nil, &sink); err != nil {
		t.Fatal(err)
	}
	if logged.Len() > 0 {
		t.Errorf("logged %s", &logged)
	}
	at, err := parseFilePosition(sink.batches[len(sink.batches)-1].Position)
	if err != nil || at.Generation != 0 {
		t.Errorf("position %+v, %v", at, err)
	}
}
