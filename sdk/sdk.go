// Package sdk holds what a plugin author needs, embedded: the SDKs in four
// languages, and the projects that a new plugin begins with. Each project has a
// copy of its SDK, so that it builds without this repository.
//
// What lies where in a project (name is the plugin's):
//
//	go              plugin.go, plugin_test.go, go.mod; the SDK in edged/sdk/go,
//	                put in place of the module github.com/edged/edged by go.mod
//	assemblyscript  index.ts, plugin.test.js, package.json and its lock file,
//	                asconfig.json; the SDK in edged/
//	rust            src/lib.rs with its tests, Cargo.toml; the SDK in edged/
//	c               plugin.c, plugin_test.c, Makefile; the SDK in edged/
package sdk

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

//go:embed abi.md
//go:embed assemblyscript/.npmrc assemblyscript/package-lock.json assemblyscript/README.md
//go:embed assemblyscript/assembly assemblyscript/runtime assemblyscript/template assemblyscript/test/harness.js
//go:embed rust/Cargo.toml rust/src all:rust/template rust/README.md
//go:embed c/edged.h c/edged_test.h c/template c/README.md
//go:embed go/*.go go/edgedtest/*.go go/template go/README.md
var files embed.FS

// The kinds of project.
const (
	Transform = "transform"
	Resolver  = "resolver"
)

// Kinds lists the kinds of project.
func Kinds() []string { return []string{Transform, Resolver} }

// placeholder stands for the plugin's name in the templates.
const placeholder = "pluginname"

// maxName bounds a plugin's name in bytes.
const maxName = 64

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// File is a file of a project, to be written with the permissions 0644.
type File struct {
	// Path is relative to the project's folder, with slashes.
	Path string
	Data []byte
}

// Command is a command to run in a project's folder.
type Command struct {
	// Env has what is set beside the environment, as KEY=value.
	Env  []string
	Args []string
}

// String returns the command as it is typed into a shell.
func (c Command) String() string { return strings.Join(append(slices.Clone(c.Env), c.Args...), " ") }

// Project is what a new plugin begins with. It builds and passes its own test
// where the language's toolchain is installed.
type Project struct {
	// Files are in ascending order of their paths.
	Files []File
	// Setup fetches the toolchain's own packages, once, over the network. Without
	// Args there is nothing to fetch.
	Setup Command
	// Build makes Module from the sources.
	Build Command
	// Test runs the project's unit tests, and builds before that if it needs to.
	Test Command
	// Module is where Build puts the module, relative to the project's folder.
	Module string
}

// language is what makes a project in one language.
type language struct {
	name string
	// copied maps files and folders of this package to places in the project.
	copied []struct{ from, to string }
	// setup, build, test and module have the placeholder for the name.
	setup, build, test Command
	module             string
}

var languages = []language{
	{
		name:   "go",
		copied: []struct{ from, to string }{{"go", "edged/sdk/go"}, {"go/template/go.mod.template", "edged/go.mod"}},
		build: Command{
			Env:  []string{"GOOS=wasip1", "GOARCH=wasm"},
			Args: []string{"go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", placeholder + ".wasm"},
		},
		test:   Command{Args: []string{"go", "test", "."}},
		module: placeholder + ".wasm",
	},
	{
		name: "assemblyscript",
		copied: []struct{ from, to string }{
			{"assemblyscript/.npmrc", ".npmrc"},
			{"assemblyscript/package-lock.json", "package-lock.json"},
			{"assemblyscript/assembly", "edged/assembly"},
			{"assemblyscript/runtime", "edged/runtime"},
			{"assemblyscript/test/harness.js", "edged/test/harness.js"},
		},
		setup:  Command{Args: []string{"npm", "ci"}},
		build:  Command{Args: []string{"npm", "run", "build"}},
		test:   Command{Args: []string{"npm", "test"}},
		module: placeholder + ".wasm",
	},
	{
		name:   "rust",
		copied: []struct{ from, to string }{{"rust/Cargo.toml", "edged/Cargo.toml"}, {"rust/src", "edged/src"}},
		build:  Command{Args: []string{"cargo", "build", "--release", "--target", "wasm32-unknown-unknown"}},
		test:   Command{Args: []string{"cargo", "test"}},
		module: "target/wasm32-unknown-unknown/release/" + placeholder + ".wasm",
	},
	{
		name:   "c",
		copied: []struct{ from, to string }{{"c/edged.h", "edged/edged.h"}, {"c/edged_test.h", "edged/edged_test.h"}},
		build:  Command{Args: []string{"make"}},
		test:   Command{Args: []string{"make", "test"}},
		module: placeholder + ".wasm",
	},
}

// Languages lists the languages there is an SDK for.
func Languages() []string {
	names := make([]string, len(languages))
	for i := range languages {
		names[i] = languages[i].name
	}
	return names
}

// NewProject returns a new plugin's project: one of Languages, one of Kinds, and
// a name of lower-case letters, digits and underscores that begins with a letter.
func NewProject(lang, kind, name string) (*Project, error) {
	if !nameForm.MatchString(name) || len(name) > maxName {
		return nil, fmt.Errorf("plugin name %q: use lower-case letters, digits and underscores, a letter first, at most %d", name, maxName)
	}
	if !slices.Contains(Kinds(), kind) {
		return nil, fmt.Errorf("plugin kind %q: there are %s", kind, strings.Join(Kinds(), ", "))
	}
	i := slices.IndexFunc(languages, func(l language) bool { return l.name == lang })
	if i < 0 {
		return nil, fmt.Errorf("language %q: there are SDKs for %s", lang, strings.Join(Languages(), ", "))
	}
	l := &languages[i]
	project := &Project{
		Setup: l.setup.named(name), Build: l.build.named(name), Test: l.test.named(name),
		Module: strings.ReplaceAll(l.module, placeholder, name),
	}
	copied := append(slices.Clone(l.copied), struct{ from, to string }{lang + "/README.md", "edged/README.md"},
		struct{ from, to string }{"abi.md", "edged/abi.md"}, struct{ from, to string }{lang + "/template/" + kind, "."})
	for _, c := range copied {
		if err := project.add(c.from, c.to, name); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(project.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return project, nil
}

// named puts the plugin's name in place.
func (c Command) named(name string) Command {
	args := make([]string, len(c.Args))
	for i, a := range c.Args {
		args[i] = strings.ReplaceAll(a, placeholder, name)
	}
	return Command{Env: c.Env, Args: args}
}

// add copies the file or folder from to the place to.
func (p *Project) add(from, to, name string) error {
	return fs.WalkDir(files, from, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			// Templates go to the top of a project, not into its copy of the SDK.
			if entry.Name() == "template" && at != from {
				return fs.SkipDir
			}
			return nil
		}
		place := path.Join(to, strings.TrimPrefix(at, from))
		// The tests of an SDK stay here; those of a template are the plugin's own. The
		// guide has a place of its own.
		inSDK := strings.HasPrefix(place, "edged/") && at != from
		if inSDK && (strings.HasSuffix(place, "_test.go") || path.Base(place) == "README.md") {
			return nil
		}
		data, err := files.ReadFile(at)
		if err != nil {
			return err
		}
		// A go.mod would make a module of its own here, out of reach for embedding.
		place = strings.TrimSuffix(place, ".template")
		p.Files = append(p.Files, File{Path: place, Data: bytes.ReplaceAll(data, []byte(placeholder), []byte(name))})
		return nil
	})
}
