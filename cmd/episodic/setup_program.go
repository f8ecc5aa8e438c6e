package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/setup"
)

// setupProgram is this program, as agent programs are to start it: for the same memory, also if
// only the environment names it and that counts.
func (a *app) setupProgram(environment bool) (*setup.Program, error) {
	path, err := programPath()
	if err != nil {
		return nil, err
	}
	target, err := a.target(false)
	if err != nil {
		return nil, err
	}
	if environment && a.db == nil && (a.getenv("EPISODIC_DB") != "" || a.getenv("TURSO_DATABASE_URL") != "") {
		a.db = &target // clients pass on only part of the environment
	}
	if user := a.getenv("EPISODIC_USER"); environment && a.user == nil && user != "" {
		a.user = &user
	}
	flags, err := a.memoryFlags("setup")
	if err != nil {
		return nil, err
	}
	p := &setup.Program{Path: path, Flags: flags}
	if isServer(target) {
		for _, name := range append(slices.Clone(secretVariables), "EPISODIC_NAMESPACE", "EPISODIC_CA_FILE", "EPISODIC_CERT_FILE", "EPISODIC_KEY_FILE") {
			if a.getenv(name) != "" {
				p.Variables = append(p.Variables, name)
			}
		}
	}
	return p, nil
}

var errGoRun = errors.New("go run builds a program that is gone afterwards; go install ./cmd/episodic makes one that stays")

// programPath is the path of this program: where the PATH has it, which an update keeps, or else
// the file itself.
func programPath() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if dir := filepath.Dir(exe); strings.Contains(dir, "go-build") && filepath.Base(dir) == "exe" {
		return "", errGoRun
	}
	if found, err := exec.LookPath("episodic"); err == nil {
		if found, err = filepath.Abs(found); err == nil && sameFile(found, exe) {
			return found, nil
		}
	}
	return exe, nil
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// memoryFlags are the flags of this command line that name a memory and say how it is used, with
// absolute paths, for a program that is started elsewhere. who is the part of the command line
// that wants to write them down.
func (a *app) memoryFlags(who string) (flags []string, err error) {
	target, err := a.target(false)
	if err != nil {
		return nil, err
	}
	if u, err := parseURL(target); isServer(target) && (err != nil || u.User != nil || u.Query().Has("authToken")) {
		return nil, invalid(who, "would write the secret in the database's URL to a file; name the database without it, and give the secret as $EPISODIC_AUTH_TOKEN or $EPISODIC_BASIC_AUTH")
	}
	if a.db != nil {
		if !isServer(target) {
			if target, err = filepath.Abs(target); err != nil {
				return nil, err
			}
		}
		flags = append(flags, "--db="+target)
	}
	for _, flag := range []struct {
		name  string
		value *string
	}{{"project", a.project}, {"user", a.user}} {
		if flag.value != nil {
			flags = append(flags, "--"+flag.name+"="+*flag.value)
		}
	}
	if a.offline == episodic.Queue {
		flags = append(flags, "--offline=queue")
	}
	if a.redact.Disabled {
		flags = append(flags, "--no-redact")
	}
	for _, allowed := range a.redact.Allow {
		flags = append(flags, "--redact-allow="+allowed)
	}
	if a.allowPlaintext {
		flags = append(flags, "--allow-plaintext")
	}
	return flags, nil
}
