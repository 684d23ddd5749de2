package plugindev

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/edged/edged/sdk"
)

// scaffold is what a project has beside its language's own files: samples for
// `edged plugin test`, and a pipeline that runs the plugin.
//
//go:embed scaffold
var scaffold embed.FS

// ProjectFile names, in a plugin's folder, what the folder holds.
const ProjectFile = "edged-plugin.json"

// Project is a plugin's folder.
type Project struct {
	Dir      string
	Name     string
	Language string
	Kind     string

	commands *sdk.Project
}

// projectJSON is the content of [ProjectFile].
type projectJSON struct {
	Name     string `json:"name"`
	Language string `json:"language"`
	Kind     string `json:"kind"`
}

// ErrExists says that a new project would write over a file.
var ErrExists = errors.New("the folder has files that would be overwritten")

// CreateProject writes a new plugin's project into dir, which is made when it is
// not there. It overwrites nothing: with an error that is [ErrExists] nothing was
// written.
func CreateProject(dir, language, kind, name string) (*Project, error) {
	from, err := sdk.NewProject(language, kind, name)
	if err != nil {
		return nil, err
	}
	p := &Project{Dir: dir, Name: name, Language: language, Kind: kind, commands: from}
	files, err := p.files()
	if err != nil {
		return nil, err
	}
	var there []string
	for _, f := range files {
		if _, err := os.Lstat(p.path(f.Path)); !errors.Is(err, fs.ErrNotExist) {
			there = append(there, f.Path)
		}
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrExists, strings.Join(there[:min(len(there), 5)], ", "))
	}
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(p.path(f.Path)), 0o755); err != nil {
			return nil, fmt.Errorf("writing the project: %w", err)
		}
		if err := os.WriteFile(p.path(f.Path), f.Data, 0o644); err != nil {
			return nil, fmt.Errorf("writing the project: %w", err)
		}
	}
	return p, nil
}

func (p *Project) path(name string) string { return filepath.Join(p.Dir, filepath.FromSlash(name)) }

// Module is the path of the built module.
func (p *Project) Module() string { return p.path(p.commands.Module) }

// files lists all that a new project has.
func (p *Project) files() ([]sdk.File, error) {
	about, err := json.MarshalIndent(projectJSON{p.Name, p.Language, p.Kind}, "", "  ")
	if err != nil {
		return nil, err
	}
	files := append(slices.Clone(p.commands.Files), sdk.File{Path: ProjectFile, Data: append(about, '\n')},
		sdk.File{Path: ".gitignore", Data: []byte("/data/\nnode_modules/\ntarget/\n*.wasm\n")})
	names := strings.NewReplacer("pluginname", p.Name, "pluginmodule", p.commands.Module)
	root := "scaffold/" + p.Kind
	err = fs.WalkDir(scaffold, root, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := scaffold.ReadFile(at)
		if err != nil {
			return err
		}
		files = append(files, sdk.File{Path: strings.TrimPrefix(at, root+"/"), Data: []byte(names.Replace(string(data)))})
		return nil
	})
	for i := range files {
		if files[i].Path == "README.md" {
			files[i].Data = append(files[i].Data, p.readme()...)
		}
	}
	return files, err
}

// readme is what edged adds to the language's own page: the way from nothing to
// a plugin that runs.
func (p *Project) readme() string {
	last := "edged run pipeline.hcl --until-drained                # runs it on the samples, and syncs"
	if p.Kind == sdk.Resolver {
		last = "edged plugin bench " + p.commands.Module
	}
	commands := []string{
		fmt.Sprintf("edged plugin new --lang %s --kind %s --name %s", p.Language, p.Kind, p.Name),
		"edged plugin build",
		"edged plugin test                                     # unit tests, then testdata/",
		"edged plugin verify " + p.commands.Module,
		last,
	}
	return "\n## With edged\n\nThis folder was made by the first of five commands:\n\n```sh\n" + strings.Join(commands, "\n") + "\n```\n\n" +
		"`testdata/` has what `edged plugin test` gives the plugin, and what it expects to come out; after a change that is meant, " +
		"`edged plugin test --update` writes it anew. `edged help plugin` lists what else there is.\n"
}

// marks tell a project's language by a file that only its projects have, for
// folders without a [ProjectFile].
var marks = []struct{ file, language string }{
	{"asconfig.json", "assemblyscript"}, {"Cargo.toml", "rust"}, {"go.mod", "go"}, {"plugin.c", "c"},
}

// OpenProject finds out what plugin a folder holds.
func OpenProject(dir string) (*Project, error) {
	p := &Project{Dir: dir, Kind: sdk.Transform}
	data, err := os.ReadFile(p.path(ProjectFile))
	switch {
	case err == nil:
		var about projectJSON
		if err := json.Unmarshal(data, &about); err != nil {
			return nil, fmt.Errorf("reading %s: %w", p.path(ProjectFile), err)
		}
		p.Name, p.Language, p.Kind = about.Name, about.Language, about.Kind
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	default:
		for _, m := range marks {
			if _, err := os.Stat(p.path(m.file)); err == nil {
				p.Language = m.language
				break
			}
		}
		if p.Language == "" {
			return nil, fmt.Errorf("there is no plugin in %s: neither %s, nor a file that tells its language (asconfig.json, Cargo.toml, go.mod, plugin.c)", dir, ProjectFile)
		}
		if p.Name, err = NameFor(dir); err != nil {
			return nil, err
		}
	}
	if p.commands, err = sdk.NewProject(p.Language, p.Kind, p.Name); err != nil {
		return nil, fmt.Errorf("the plugin in %s: %w", dir, err)
	}
	return p, nil
}

// NameFor makes a plugin's name of its folder's.
func NameFor(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r == '-' || r == ' ' || r == '.':
			return '_'
		}
		return -1
	}, filepath.Base(abs))
	if name = strings.TrimLeft(name, "_0123456789"); name == "" {
		return "", fmt.Errorf("the folder's name %q makes no plugin name", path.Base(filepath.ToSlash(abs)))
	}
	return name, nil
}

// tools says which programs a language's build needs, and how to get them.
var tools = map[string]struct {
	names   []string
	install string
}{
	"go":             {[]string{"go"}, "install Go 1.24 or later: https://go.dev/dl"},
	"assemblyscript": {[]string{"node", "npm"}, "install node 20 or later, with npm: https://nodejs.org, or on Debian: apt install nodejs npm"},
	"rust":           {[]string{"cargo", "rustc"}, "install Rust: https://rustup.rs, then: rustup target add wasm32-unknown-unknown; or on Debian: apt install cargo libstd-rust-dev-wasm32 lld"},
	"c":              {[]string{"make", "clang-19", "wasm-ld-19"}, "install make, clang 19 and lld 19; on Debian: apt install make clang-19 lld-19; a clang of another name: make CLANG=clang"},
}

// MissingTools says what has to be installed before the project can be built;
// nil: nothing.
func (p *Project) MissingTools() error {
	need := tools[p.Language]
	var missing []string
	for _, name := range need.names {
		if p.Language == "c" && os.Getenv("CLANG") != "" && name != "make" {
			continue // the author names a clang of their own
		}
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("a plugin in %s needs %s, which is not installed here: %s", p.Language, strings.Join(missing, " and "), need.install)
}

// Build fetches the toolchain's own packages if they are not there yet, and
// builds the module. What the commands print goes to out.
func (p *Project) Build(ctx context.Context, out io.Writer) error {
	env, err := p.toolchain(ctx)
	if err != nil {
		return err
	}
	if setup := p.commands.Setup; len(setup.Args) > 0 {
		if _, err := os.Stat(p.path("node_modules")); errors.Is(err, fs.ErrNotExist) {
			if err := p.run(ctx, setup, env, out); err != nil {
				return fmt.Errorf("fetching the compiler, which takes a network once: %w", err)
			}
		}
	}
	if err := p.run(ctx, p.commands.Build, env, out); err != nil {
		return fmt.Errorf("building: %w", err)
	}
	return nil
}

// UnitTest runs the project's own tests. What they print goes to out.
func (p *Project) UnitTest(ctx context.Context, out io.Writer) error {
	env, err := p.toolchain(ctx)
	if err != nil {
		return err
	}
	return p.run(ctx, p.commands.Test, env, out)
}

// toolchain returns what has to be set for the language's tools, or what has to
// be installed.
func (p *Project) toolchain(ctx context.Context) ([]string, error) {
	if err := p.MissingTools(); err != nil {
		return nil, err
	}
	if p.Language == "rust" {
		return rustEnv(ctx)
	}
	return nil, nil
}

// run runs a command in the project's folder. A program is looked for in the PATH
// of env, if it has one.
func (p *Project) run(ctx context.Context, c sdk.Command, env []string, out io.Writer) error {
	if _, err := fmt.Fprintf(out, "$ %s\n", c); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env = p.Dir, slices.Concat(os.Environ(), env, c.Env)
	for _, set := range env {
		if dirs, ok := strings.CutPrefix(set, "PATH="); ok {
			first, _, _ := strings.Cut(dirs, string(os.PathListSeparator))
			if name := filepath.Join(first, c.Args[0]); executable(name) {
				cmd.Path, cmd.Err = name, nil
			}
		}
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

func executable(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}
