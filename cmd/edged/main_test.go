package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// binary is edged as people run it, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "edged-cmd")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary = filepath.Join(dir, "edged")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building edged: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// result is what one call of the binary came to.
type result struct {
	code           int
	stdout, stderr string
}

// edged runs the binary in dir.
func edged(t *testing.T, dir, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatalf("edged %s: %v", strings.Join(args, " "), err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// wantCode fails the test when r ended otherwise.
func (r result) wantCode(t *testing.T, code int) {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestUsageErrors holds that a wrong command line exits with 2 and says in one
// line what to do.
func TestUsageErrors(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown command":      {[]string{"rnu"}, `did you mean "run"?`},
		"no such command":      {[]string{"xyzzy"}, "'edged help' lists them"},
		"unknown flag":         {[]string{"run", "--untildrained", "x.hcl"}, "'edged help run' lists the flags"},
		"unknown root flag":    {[]string{"--nope"}, "'edged help' lists the flags"},
		"no file":              {[]string{"run"}, "edged run pipelines/quickstart.hcl"},
		"audit without a file": {[]string{"audit"}, "needs at least one pipeline file or folder"},
		"argument too many":    {[]string{"version", "now"}, "takes no arguments"},
		"log level":            {[]string{"run", "--log-level", "loud", "x.hcl"}, "debug, info, warn, error"},
		"log format":           {[]string{"run", "--log-format", "xml", "x.hcl"}, "text or json"},
		"half a key pair":      {[]string{"hub", "--tls-cert", "x.crt"}, "tls-key"},
		"size":                 {[]string{"hub", "--max-bytes", "many"}, "--max-bytes"},
		"dlq command":          {[]string{"dlq", "lss"}, `did you mean "ls"?`},
		"no dlq command":       {[]string{"dlq", "xyzzy"}, "'edged help dlq' lists them"},
		"dlq flag":             {[]string{"dlq", "ls", "--nope"}, "'edged help dlq ls' lists the flags"},
		"show without an ID":   {[]string{"dlq", "show"}, "'edged dlq ls' lists them"},
		"drop nothing":         {[]string{"dlq", "drop"}, "or --all"},
		"retry in two ways":    {[]string{"dlq", "retry", "4f1c22", "--all"}, "either IDs, or filters, or --all"},
		"since":                {[]string{"dlq", "ls", "--since", "noon"}, "how long ago, like 90m"},
		"priority":             {[]string{"queue", "ls", "--priority", "urgent"}, "critical, high, normal or low"},
		"from behind to":       {[]string{"store", "export", "--from", "9", "--to", "3"}, "nothing between"},
		"unknown page":         {[]string{"reference", "poems"}, "pipelines, commands"},
	} {
		t.Run(name, func(t *testing.T) {
			r := edged(t, t.TempDir(), "", c.args...)
			r.wantCode(t, exitUsage)
			if r.stdout != "" {
				t.Errorf("stdout is not empty: %q", r.stdout)
			}
			if !strings.HasPrefix(r.stderr, "edged: ") || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, c.want) {
				t.Errorf("stderr is %q, want one line that starts with edged: and has %q", r.stderr, c.want)
			}
		})
	}
}

// TestHelpTeaches holds that each command explains itself and shows examples,
// in the code and in what people see.
func TestHelpTeaches(t *testing.T) {
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			check(sub)
		}
		if !cmd.Runnable() {
			return
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || len(cmd.Long) <= len(cmd.Short) {
			t.Errorf("%s: needs a Short without a full stop, and a Long that teaches", cmd.CommandPath())
		}
		if !strings.Contains(cmd.Example, "edged ") {
			t.Errorf("%s: needs an Example", cmd.CommandPath())
		}
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		r := edged(t, t.TempDir(), "", args...)
		r.wantCode(t, exitOK)
		if !strings.Contains(r.stdout, "Examples:\n"+cmd.Example) {
			t.Errorf("%s --help shows no examples:\n%s", cmd.CommandPath(), r.stdout)
		}
	}
	check(newRoot())

	topic := edged(t, t.TempDir(), "", "help", "exit-codes")
	topic.wantCode(t, exitOK)
	for _, c := range exitCodes {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^ +%d  \w`, c.code)).MatchString(topic.stdout) {
			t.Errorf("help exit-codes does not have %d:\n%s", c.code, topic.stdout)
		}
	}
}

func TestVersion(t *testing.T) {
	r := edged(t, t.TempDir(), "", "version", "--json")
	r.wantCode(t, exitOK)
	var got versions
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	for name, v := range map[string]string{"version": got.Version, "go": got.Go, "nats_server": got.NATSServer, "wazero": got.Wazero} {
		if !regexp.MustCompile(`^(\(devel\)|v\d|go1)`).MatchString(v) {
			t.Errorf("%s is %q", name, v)
		}
	}
	text := edged(t, t.TempDir(), "", "version")
	text.wantCode(t, exitOK)
	if !strings.HasPrefix(text.stdout, "edged "+got.Version+"\n") || !strings.Contains(text.stdout, got.NATSServer) {
		t.Errorf("version prints %q", text.stdout)
	}
}

// TestCompletion asks the binary what the shell's script asks it.
func TestCompletion(t *testing.T) {
	const (
		noFiles   = ":4"
		filterExt = ":8"
		dirs      = ":16"
	)
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"commands":         {[]string{"va"}, []string{"validate\t", noFiles}},
		"pipeline files":   {[]string{"run", ""}, []string{"hcl\n", filterExt}},
		"log levels":       {[]string{"run", "--log-level", ""}, []string{"debug\ninfo\nwarn\nerror\n", noFiles}},
		"queue priorities": {[]string{"queue", "ls", "--priority", ""}, []string{"critical\nhigh\nnormal\nlow\n", noFiles}},
		"dead letters":     {[]string{"dlq", ""}, []string{"drop\t", "export\t", "ls\t", "retry\t", "show\t"}},
		"data folder":      {[]string{"status", "--data-dir", ""}, []string{dirs}},
		"pages":            {[]string{"reference", "p"}, []string{"pipelines\n", noFiles}},
	} {
		t.Run(name, func(t *testing.T) {
			r := edged(t, t.TempDir(), "", append([]string{"__complete"}, c.args...)...)
			r.wantCode(t, exitOK)
			for _, want := range c.want {
				if !strings.Contains(r.stdout, want) {
					t.Errorf("completion of %q is %q, want %q in it", c.args, r.stdout, want)
				}
			}
		})
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		r := edged(t, t.TempDir(), "", "completion", shell)
		r.wantCode(t, exitOK)
		if !strings.Contains(r.stdout, "__complete") {
			t.Errorf("completion %s prints no script", shell)
		}
	}
}

// TestReferencePagesAreFresh fails when a page is not what the code would
// write.
func TestReferencePagesAreFresh(t *testing.T) {
	for _, p := range pages {
		committed := readFile(t, filepath.Join("..", "..", filepath.FromSlash(p.path)))
		r := edged(t, t.TempDir(), "", "reference", p.name)
		r.wantCode(t, exitOK)
		if r.stdout != committed {
			t.Errorf("%s is stale: run 'make reference'", p.path)
		}
	}
}

func TestReferenceWrite(t *testing.T) {
	dir := t.TempDir()
	for _, p := range pages {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, p.path)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	edged(t, dir, "", "reference", "--write", ".").wantCode(t, exitOK)
	for _, p := range pages {
		if !strings.HasPrefix(readFile(t, filepath.Join(dir, p.path)), "# ") {
			t.Errorf("%s does not start with a title", p.path)
		}
	}
}

// TestNoEdge holds that a script can tell "no edge runs there" from a failure.
func TestNoEdge(t *testing.T) {
	r := edged(t, t.TempDir(), "", "status", "--data-dir", "nowhere", "--json")
	r.wantCode(t, exitNoEdge)
	if r.stdout != "" || !strings.Contains(r.stderr, `"nowhere"`) || !strings.Contains(r.stderr, "edged run") {
		t.Errorf("stdout %q, stderr %q", r.stdout, r.stderr)
	}
}
