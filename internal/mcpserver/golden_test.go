package mcpserver

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

var update = flag.Bool("update", false, "write what the server answers into the transcripts")

// varying are what differs from day to day in answers: when something was recorded.
var varying = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:]+Z|\d{4}-\d\d-\d\d( [0-9a-f]{8}-)|(?:just now|\d+ minutes? ago)`)

// TestTranscripts plays what clients send, the lines of a transcript that begin with "> ", and
// compares the answers with those that follow them, "< ".
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	ok(t, err)
	if len(files) < 3 {
		t.Fatalf("there are only the transcripts %q", files)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			ok(t, err)
			p := serve(t, Options{
				Session: Session{"claude-code", "5f3c"}, Scope: episodic.Scope{Project: "shop"}, Folder: "/src/shop", Version: "0",
			})
			var got bytes.Buffer
			for line := range strings.Lines(string(want)) {
				line = strings.TrimSuffix(line, "\n")
				sent, toServer := strings.CutPrefix(line, "> ")
				if strings.HasPrefix(line, "< ") {
					continue
				}
				got.WriteString(line + "\n")
				if !toServer {
					continue
				}
				p.send(sent)
				if !strings.Contains(sent, `"notifications/`) {
					got.WriteString("< " + varying.ReplaceAllString(p.line(), "WHEN$1") + "\n")
				}
			}
			if *update {
				ok(t, os.WriteFile(file, got.Bytes(), 0o666))
			} else if got.String() != string(want) {
				t.Errorf("%s: got\n%s", file, got.String())
			}
		})
	}
}
