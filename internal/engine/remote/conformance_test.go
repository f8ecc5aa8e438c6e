package remote

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/enginetest"
	"github.com/episodic-memory/episodic/internal/hrana"
	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
	"github.com/episodic-memory/episodic/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hidden says what a server does not know that speaks only the protocol.
var hidden = map[hrana.Protocol][]string{
	hrana.V3Protobuf: nil,
	hrana.V3JSON:     {"/v3-protobuf"},
	hrana.V2JSON:     {"/v3"},
}

// protocols returns how many protocols a test is for, in the order of preference.
func protocols() hrana.Protocol {
	return hrana.Protocol(testkit.Effort(1, int(hrana.V2JSON)+1, int(hrana.V2JSON)+1))
}

// open opens an engine on a fresh database that speaks only the protocol.
func open(t *testing.T, protocol hrana.Protocol) (*Engine, *hranatest.Proxy) {
	t.Helper()
	url := hranatest.Start(t).URL()
	proxy := hranatest.NewProxy(t, url)
	proxy.Hide(hidden[protocol]...)
	return openURL(t, proxy.URL()), proxy
}

func openURL(t *testing.T, url string) *Engine {
	t.Helper()
	return openConfig(t, Config{URL: url})
}

func TestEngineConforms(t *testing.T) {
	t.Parallel()
	for protocol := range protocols() {
		t.Run(protocol.String(), func(t *testing.T) {
			enginetest.Run(t, func(t *testing.T) engine.Engine {
				e, _ := open(t, protocol)
				return e
			})
		})
	}
}
