package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/edged/edged/engine/config"
	"github.com/edged/edged/engine/expr"
)

// The formats of a file.
const (
	formatNDJSON = "ndjson"
	formatCSV    = "csv"
)

func fileSpec() config.Spec {
	args := []config.Arg{
		{Name: "path", Type: config.String, Required: true, Doc: "The file to read. A relative path is relative to the pipeline file's folder."},
		{Name: "format", Type: config.String, Default: `"` + formatNDJSON + `"`, Enum: []string{formatNDJSON, formatCSV}, Doc: "ndjson: one JSON object a line. csv: comma separated values, by default with a header line."},
		{Name: "columns", Type: config.StringMap, Doc: "CSV: the type of a column by its name: string, number or bool (true, false, 1, 0). A column that is not listed is a string. An empty number or bool is null."},
		{Name: "delimiter", Type: config.String, Default: `","`, Doc: "CSV: the one ASCII character between fields."},
		{Name: "header", Type: config.StringList, Doc: "CSV: the column names of a file that has no header line."},
		{Name: "follow", Type: config.Bool, Default: "false", Doc: "Wait at the end for data that is appended, and go on with the next file when the file is rotated or truncated. An incomplete last line waits for its end. Without it the source ends at the end of the file, and takes an incomplete last line as it is."},
		{Name: "poll", Type: config.Duration, Default: `"1s"`, Min: "10ms", Max: "1h", Doc: "With follow: how often to look for more data."},
		{Name: "max_line", Type: config.Size, Default: `"1MiB"`, Min: "1KiB", Max: "16MiB", Doc: "The longest line, in CSV the longest row with the lines inside its quotes. A longer one goes to the dead letters."},
	}
	return config.Spec{
		Name:    "file",
		Summary: "Reads records from a file of NDJSON or CSV lines.",
		Doc: `The position in the file is stored together with the records, so that a restart, after a crash too,
neither repeats nor skips a line. A file that was truncated or replaced while the edge was away is
reported in the log and read from its beginning; it is recognized by its length and by the bytes
before the position. A line that cannot be read (not JSON, wrong number of fields, not a number, not
UTF-8, too long) goes to the dead letters with its bytes, line number and byte offset.

In CSV, quoted fields may hold delimiters, doubled quotes and line ends. The input is an object with
one member for each column, in the header's order. A row with a lost quote costs its first line and
not those behind it. Blank lines are skipped, a byte order mark and either line end are understood.

The default id is made of the line's bytes and where it stands, so that reading a line again gives
the same id.

` + mappingDoc + rejectDoc,
		Args: append(args, mappingArgs(expr.Input, "a hash of the line and its place in the file")...),
		Example: `collect "file" "motes" {
  path      = "data/motes.csv"
  format    = "csv"
  columns   = { temperature = "number", humidity = "number", indoor = "bool" }
  device_id = "mote-${input.mote_id}"
  data_type = "climate"
  payload   = { temperature = input.temperature, humidity = input.humidity }
}`,
		Check: checkFile,
	}
}

func checkFile(a config.Args) hcl.Diagnostics {
	var diags hcl.Diagnostics
	report := func(arg, summary, detail string) { diags = append(diags, a.Error(arg, summary, detail)) }
	if a.String("format") != formatCSV {
		for _, arg := range []string{"columns", "header"} {
			if a.Given(arg) {
				report(arg, "Argument without use", fmt.Sprintf("The argument %q describes CSV, but the format is %q. Remove it or set format = \"csv\".", arg, a.String("format")))
			}
		}
	}
	if d := a.String("delimiter"); len(d) != 1 || d[0] >= 0x80 || d[0] == '"' || d[0] == '\r' || d[0] == '\n' || d[0] == 0 {
		report("delimiter", "Invalid delimiter", fmt.Sprintf("The delimiter is %q; use one ASCII character such as \",\", \";\" or \"\\t\", and neither a quote nor a line end.", d))
	}
	declared := csvFormat{types: a.Map("columns")}
	for name, kind := range declared.types {
		known := false
		for _, k := range columnTypes {
			known = known || k == kind
		}
		if !known {
			report("columns", "Unknown column type", fmt.Sprintf("The column %q has the type %q; use string, number or bool.", name, kind))
		}
	}
	if header := a.Strings("header"); a.Given("header") {
		if len(header) == 0 {
			report("header", "Empty header", "The argument \"header\" names no column. Name every column of the file, or remove it when the file has a header line.")
		} else if err := declared.setHeader(header); err != nil {
			report("header", "Invalid header", "The argument \"header\" does not fit: "+err.Error()+".")
		}
	}
	return diags
}

// fileSource reads one file. It keeps no state between runs.
type fileSource struct {
	opts      Options
	args      config.Args
	written   string // the path as the user wrote it
	path      string
	following bool
	poll      time.Duration
	maxLine   int
}

var _ Source = (*fileSource)(nil)

func openFile(opts Options, args config.Args) (Source, error) {
	opts = opts.withDefaults()
	s := &fileSource{
		opts: opts, args: args,
		written:   args.String("path"),
		path:      opts.resolve(args.String("path")),
		following: args.Bool("follow") && !opts.UntilEnd,
		poll:      args.Duration("poll"),
		maxLine:   int(args.Size("max_line")),
	}
	f, err := s.open()
	if err != nil {
		if s.following && errors.Is(err, fs.ErrNotExist) {
			opts.Logger.Warn("the file does not exist yet; the source waits for it", "path", s.path)
			return s, nil
		}
		return nil, err
	}
	return s, f.Close()
}

// open opens the file and makes sure that it can have a position.
func (s *fileSource) open() (*os.File, error) {
	f, err := os.Open(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("opening the source %q: there is no file %s; create it or correct path at %s (a relative path is relative to the pipeline file): %w",
			s.opts.Name, s.path, s.args.ArgRange("path"), err)
	case err != nil:
		return nil, fmt.Errorf("opening the source %q: %w", s.opts.Name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file; path at %s must name one", s.path, s.args.ArgRange("path"))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the source %q: %w", s.opts.Name, err), f.Close())
	}
	return f, nil
}

// Run reads the file; see [Source].
func (s *fileSource) Run(ctx context.Context, position json.RawMessage, sink Sink) error {
	at, err := parseFilePosition(position)
	if err != nil {
		return fmt.Errorf("reading the position of the source %q: %w; another kind of source may have had this name, give this one a new name", s.opts.Name, err)
	}
	d := newDelivery(ctx, sink, s.opts)
	t := newTail(s, at)
	if err := errors.Join(t.run(d), t.close()); err != nil {
		d.cancel(nil)
		return fmt.Errorf("reading %s: %w", s.path, err)
	}
	return d.end()
}

// waitForFile opens the file, waiting for it to appear when the source
// follows. Nil without an error: the context ended first.
func (s *fileSource) waitForFile(ctx context.Context) (*os.File, error) {
	for {
		f, err := s.open()
		if err == nil || !s.following || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		s.opts.Sleep(ctx, s.poll)
		if ctx.Err() != nil {
			return nil, nil
		}
	}
}
