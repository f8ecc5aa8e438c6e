package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/agentstore"
	"github.com/episodic-memory/episodic/internal/transcript"
)

// source is a file to be imported.
type source struct {
	name    string // - is standard input
	size    int64  // -1: unknown
	changed time.Time
	text    string // what is in it; empty: the file has it
	store   bool   // it is a database or a folder, which holds sessions in pieces
	found   bool   // in a folder, where files of other kinds lie beside it
}

// recordSuffixes end the names of files that may hold records. In a folder others are passed
// by; a file that is named is read whatever it is called.
var recordSuffixes = []string{".jsonl", ".json", ".ndjson", ".traj", ".chat.history.md", "opencode.db", "state.vscdb"}

// files are those that are named, in folders in the order of their names.
func (im *importer) files(paths []string, format string) (files []source, err error) {
	if len(paths) == 0 {
		return im.ownFiles(format)
	}
	for _, path := range paths {
		if path == "-" {
			files = append(files, source{name: path, size: -1})
			continue
		}
		path = home(path)
		matches := []string{path}
		if _, err := os.Lstat(path); err != nil && strings.ContainsAny(path, "*?[") {
			if matches, err = filepath.Glob(path); err != nil || len(matches) == 0 {
				im.badFile(&fs.PathError{Op: "import", Path: path, Err: fs.ErrNotExist})
				continue
			}
		}
		for _, match := range matches {
			old := im.old
			found := im.below(match, hasRecords)
			if len(found) == 0 && old == im.old && isFolder(match) {
				im.badFile(fmt.Errorf("%s: holds no file that ends in %s", match, strings.Join(recordSuffixes, ", ")))
			}
			files = append(files, found...)
		}
	}
	return files, nil
}

// ownFiles are the sessions in the folders of an agent itself.
func (im *importer) ownFiles(format string) (files []source, err error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	folders := transcript.Folders(format, im.getenv, home, runtime.GOOS)
	if len(folders) == 0 {
		return nil, invalid("path", "is missing; name files or folders, or - for standard input. Sessions of %s are found with --from alone", strings.Join(transcript.Sources(), ", "))
	}
	found := false
	for _, dir := range folders {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		found = true
		files = append(files, im.below(dir, func(path string) bool { return transcript.Wanted(format, path) })...)
	}
	if !found {
		return nil, invalid("--from", "has no folder here: there is no %s", strings.Join(folders, " and no "))
	}
	return im.withoutCopies(files, format), nil
}

// withoutCopies leaves out the transcripts of conversations that Cursor's database holds, with
// what tools answered.
func (im *importer) withoutCopies(files []source, format string) []source {
	if format != "cursor" {
		return files
	}
	for _, f := range files {
		if !f.store {
			continue
		}
		ids, err := agentstore.Conversations(context.Background(), f.name)
		if err != nil {
			continue // reading it tells
		}
		files = slices.DeleteFunc(files, func(f source) bool {
			return ids[strings.TrimSuffix(filepath.Base(f.name), ".jsonl")]
		})
	}
	return files
}

// home is a path whose ~ is the user's folder, as where no shell has seen to it.
func home(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if dir, err := os.UserHomeDir(); err == nil {
			return filepath.Join(dir, rest)
		}
	}
	return path
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func hasRecords(path string) bool {
	name := strings.ToLower(filepath.Base(path))
	for _, packed := range []string{".gz", ".zst"} {
		name = strings.TrimSuffix(name, packed)
	}
	return slices.ContainsFunc(recordSuffixes, func(suffix string) bool { return strings.HasSuffix(name, suffix) })
}

// below are a file, or the wanted files below a folder, that have changed since im.since.
func (im *importer) below(path string, wanted func(string) bool) (files []source) {
	err := filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			im.badFile(err)
			return nil
		}
		var kind agentstore.Kind
		if d.IsDir() {
			if kind = agentstore.Folder(at); kind == agentstore.Copies {
				return fs.SkipDir
			}
		} else if at != path && !wanted(at) {
			return nil
		} else if ext := filepath.Ext(at); at == path || ext == ".db" || ext == ".vscdb" {
			kind = agentstore.Database(at)
		}
		info, err := os.Stat(at) // of what a link leads to
		if err != nil {
			im.badFile(err)
			return nil
		}
		var skip error
		if info.IsDir() {
			if kind == agentstore.Other {
				return nil
			}
			skip = fs.SkipDir
		}
		if kind != agentstore.Sessions && info.ModTime().Before(im.since) { // those tell it themselves
			im.old++
			return skip
		}
		f := source{name: at, size: -1, changed: info.ModTime(), store: kind != agentstore.Other, found: at != path}
		if info.Mode().IsRegular() {
			f.size = info.Size()
		}
		files = append(files, f)
		return skip
	})
	if err != nil {
		im.badFile(err)
	}
	return files
}

func (im *importer) open(ctx context.Context, f source) (io.ReadCloser, error) {
	if f.text != "" {
		return io.NopCloser(strings.NewReader(f.text)), nil
	}
	if f.name == "-" {
		return interruptible(ctx, im.stdin), nil
	}
	if f.store {
		return agentstore.Open(ctx, f.name, im.since)
	}
	return os.Open(f.name)
}

// interruptible returns a reader of r that fails when ctx ends, even while
// nobody types anything.
func interruptible(ctx context.Context, r io.Reader) io.ReadCloser {
	pr, pw := io.Pipe()
	go func() {
		_, err := io.Copy(pw, r)
		pw.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
	return pr
}
