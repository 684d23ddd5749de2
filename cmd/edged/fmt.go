package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/edged/edged/engine/config"
)

// formatter is one call of `edged fmt`.
type formatter struct {
	check, diff    bool
	stdout, stderr io.Writer
}

func newFmtCommand() *cobra.Command {
	var f formatter
	cmd := &cobra.Command{
		Use:   "fmt [FILE|DIR...]",
		Short: "Format pipeline files the one way",
		Long: `Format pipeline files in place, and print the names of those that changed.
Without arguments it formats the *.hcl files of this folder; '-' formats
standard input to standard output. Only spaces change: never a value, a comment
or an order.

A file with a syntax error is left alone and reported like 'edged validate'
does; the others are formatted all the same.`,
		Example: `  edged fmt
  edged fmt pipelines /etc/edged/site.hcl

  # In a build: fails when a file is not formatted, and shows how it would change
  edged fmt --check --diff pipelines

  # From an editor
  edged fmt - < quickstart.hcl`,
		ValidArgsFunction: completePaths,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.stdout, f.stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
			if slices.Equal(args, []string{"-"}) {
				return f.stream(cmd.InOrStdin())
			}
			if len(args) == 0 {
				args = []string{"."}
			}
			return f.files(args)
		},
	}
	cmd.Flags().BoolVar(&f.check, "check", false, "change nothing; exit with 1 when a file is not formatted")
	cmd.Flags().BoolVar(&f.diff, "diff", false, "print how the files change")
	return cmd
}

// files formats every file that paths name.
func (f *formatter) files(paths []string) error {
	names, err := pipelineFiles(paths)
	if err != nil {
		return err
	}
	var changed uint64
	broken := false
	for _, name := range names {
		did, err := f.file(name)
		var failed *exitError
		switch {
		case errors.As(err, &failed) && failed.code == exitConfig:
			broken = true
		case err != nil:
			return err
		case did:
			changed++
		}
	}
	if broken {
		return failure(exitConfig, errors.New("files with syntax errors, printed above, were left alone"))
	}
	if f.check && changed > 0 {
		return failure(exitRuntime, fmt.Errorf("%s to format: run 'edged fmt' on them", plural(changed, "file")))
	}
	return nil
}

// file formats one file and reports whether that changes it.
func (f *formatter) file(name string) (changed bool, err error) {
	before, err := os.ReadFile(name)
	if err != nil {
		return false, fmt.Errorf("reading a pipeline file: %w", err)
	}
	after, err := f.format(before, name)
	if err != nil || bytes.Equal(before, after) {
		return false, err
	}
	if _, err := fmt.Fprintln(f.stdout, name); err != nil {
		return false, err
	}
	if f.diff {
		if _, err := io.WriteString(f.stdout, unifiedDiff(name, before, after)); err != nil {
			return false, err
		}
	}
	if f.check {
		return true, nil
	}
	if err := replaceFile(name, after); err != nil {
		return false, fmt.Errorf("writing the formatted file: %w", err)
	}
	return true, nil
}

// stream formats standard input to standard output.
func (f *formatter) stream(in io.Reader) error {
	before, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("reading standard input: %w", err)
	}
	const name = "<stdin>"
	after, err := f.format(before, name)
	if err != nil {
		return err
	}
	switch {
	case f.diff:
		_, err = io.WriteString(f.stdout, unifiedDiff(name, before, after))
	case !f.check:
		_, err = f.stdout.Write(after)
	}
	if err != nil {
		return err
	}
	if f.check && !bytes.Equal(before, after) {
		return failure(exitRuntime, errors.New("standard input is not formatted"))
	}
	return nil
}

// format returns the formatted text; a syntax error is printed.
func (f *formatter) format(src []byte, name string) ([]byte, error) {
	after, diags := config.Format(src, name)
	if !diags.HasErrors() {
		return after, nil
	}
	if err := printDiagnostics(f.stderr, nil, diags); err != nil {
		return nil, err
	}
	return nil, failure(exitConfig, fmt.Errorf("%s has a syntax error, printed above", name))
}

// pipelineFiles lists the files that paths name: a folder stands for its *.hcl
// files.
func pipelineFiles(paths []string) ([]string, error) {
	var names []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, failure(exitConfig, fmt.Errorf("looking for pipeline files: %w", err))
		}
		if !info.IsDir() {
			names = append(names, path)
			continue
		}
		found, err := filepath.Glob(filepath.Join(path, "*.hcl"))
		if err != nil {
			return nil, fmt.Errorf("looking for pipeline files: %w", err)
		}
		names = append(names, found...)
	}
	return names, nil
}

// replaceFile swaps the content of a file in one step, so that no reader and
// no crash finds half of it. The mode stays; a symbolic link stays one.
func replaceFile(name string, content []byte) (err error) {
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(target), ".edged-fmt-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	_, err = temp.Write(content)
	err = errors.Join(err, temp.Chmod(info.Mode().Perm()), temp.Close())
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), target)
}
