package mcpserver

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/episodic-memory/episodic"
)

func TestDamagedItemsAreToldOf(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	store, err := episodic.Open(t.Context(), path, nil)
	ok(t, err)
	var bad episodic.ID
	for _, text := range []string{"pay 100 dollars", "pay 200 dollars"} {
		e := &episodic.Episode{Description: text}
		ok(t, store.StartEpisode(t.Context(), e))
		bad = e.ID
	}
	ok(t, store.Close())
	file, err := os.ReadFile(path)
	ok(t, err)
	at := bytes.Index(file, []byte("pay 200"))
	if at < 0 || bytes.Contains(file[at+1:], []byte("pay 200")) {
		t.Fatal("the text does not stand in the file once")
	}
	file[at+4] ^= '2' ^ '9'
	ok(t, os.WriteFile(path, file, 0o600))

	p := serve(t, Options{Open: opener(path)})
	const told = "1 item is damaged and left out; tell the user to run episodic doctor"
	for _, tt := range []struct{ tool, arguments, want string }{
		{"recall", `{"query":"pay dollars"}`, told},
		{"start", `{"task":"pay dollars"}`, ""},
		{"log", `{"steps":["look"]}`, "pay 100 dollars"},
		{"log", `{"steps":["look"]}`, told},
		{"show", `{"id":"` + bad.String() + `"}`, "What to do: tell the user to run episodic doctor"},
	} {
		if text, _ := p.tool(tt.tool, tt.arguments); !strings.Contains(text, tt.want) || strings.Contains(text, "pay 900") {
			t.Errorf("%s says %s", tt.tool, text)
		}
	}
	p.send(`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"episodic://recent"` + modern + `}}`)
	if text := p.line(); !strings.Contains(text, told) || !strings.Contains(text, "pay 100") {
		t.Errorf("the recent episodes are %s", text)
	}
}
