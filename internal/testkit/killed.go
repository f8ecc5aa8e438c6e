// Package testkit is what the tests of several rooms share. Only tests import it.
package testkit

import (
	"bufio"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Killed runs this test binary again with env, "NAME=value", in its environment, as
// a program that writes until it is killed and tells in lines on its standard output
// what it has written. said gets every line. The program is killed some time, up to
// within, after so many lines; the test fails if it ends by itself.
func Killed(t *testing.T, env string, lines int, within time.Duration, said func(line string)) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for n, scanner := 0, bufio.NewScanner(out); scanner.Scan(); n++ {
		if n == lines {
			time.AfterFunc(rand.N(within+1), func() { _ = cmd.Process.Kill() }) // fails if it is gone, which Wait tells
		}
		said(scanner.Text())
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the program ended by itself")
	}
}
