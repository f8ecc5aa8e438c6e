package episodic

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/episodic-memory/episodic"

// room is what a package may import. Its files are checked, not what they
// import in turn.
type room struct {
	ours   []string // packages of this module, relative to it
	others []string // modules of others, besides the standard library
	why    string
}

// rooms is the import table of docs/design.md.
var rooms = map[string]room{
	".": {
		ours:   []string{"internal/engine", "internal/engine/remote", "internal/engine/embedded", "internal/pool", "internal/codec", "internal/doctor", "internal/embed", "internal/payload", "internal/feed", "internal/cache", "internal/index", "internal/rank", "internal/redact", "internal/live", "internal/outbox", "internal/replica", "internal/schema", "internal/tokens", "internal/userdir", "internal/vector"},
		others: []string{"github.com/google/uuid", "golang.org/x/text"},
		why:    "the root wires the rooms together and adds nothing to what its users must link",
	},
	"cmd/episodic": {
		ours:   []string{".", "internal/access", "internal/agentstore", "internal/capture", "internal/clients", "internal/durability", "internal/eval", "internal/hook", "internal/mcpserver", "internal/project", "internal/serve", "internal/setup", "internal/transcript", "internal/wholefile"},
		others: []string{"github.com/alecthomas/kong", "github.com/schollz/progressbar/v3", "golang.org/x/term", "github.com/adrg/xdg"},
		why:    "what the command line does with a memory must be possible with the public API alone, or the API lacks something",
	},
	"internal/transcript": {
		ours:   []string{"."},
		others: []string{"github.com/valyala/fastjson", "github.com/klauspost/compress", "github.com/pierrec/lz4", "golang.org/x/text"},
		why:    "formats become episodes without a Store: what is stored already, and where, is for others to know",
	},
	"internal/agentstore": {
		others: []string{"modernc.org/sqlite"},
		why:    "it puts the sessions of other programs together: what they say, and what a memory is, is for others to know",
	},
	"internal/confedit": {
		others: []string{"github.com/tailscale/hujson", "github.com/pelletier/go-toml/v2", "go.yaml.in/yaml/v3"},
		why:    "texts are edited by their formats alone: whose they are, and what belongs there, is for others to know",
	},
	"internal/setup": {
		ours: []string{"internal/confedit", "internal/redact", "internal/wholefile"},
		why:  "it knows the files of other programs: what the entries in them start is for the command line to say",
	},
	"internal/capture": {
		ours: []string{".", "internal/transcript"},
		why:  "it follows files: what is in them the formats know, and all that it does with a memory must be possible with the public API",
	},
	"internal/project": {
		why: "which project a folder belongs to is told by files of git's and of the user's: what is stored of it is for others to know",
	},
	"internal/clients": {
		why: "what agent programs say and want to hear are values: what is stored of it, and where, is for others to know",
	},
	"internal/frame": {
		why: "whoever shows a model what is recalled needs the same marks, which know nothing of memories",
	},
	"internal/wholefile": {
		why: "a file that is replaced is replaced in the same way wherever it lies, and whatever it holds",
	},
	"internal/hook": {
		ours:   []string{".", "internal/clients", "internal/frame", "internal/tokens", "internal/transcript", "internal/wholefile"},
		others: []string{"github.com/gofrs/flock"},
		why:    "it keeps a memory up to date with what agent programs say: all that it does with it must be possible with the public API",
	},
	"internal/durability": {
		ours: []string{"."},
		why:  "what it finds must hold for every program, so it uses the public API alone",
	},
	"internal/mcpserver": {
		ours:   []string{".", "internal/frame", "internal/tokens", "internal/transcript"},
		others: []string{"github.com/modelcontextprotocol/go-sdk"},
		why:    "only this room knows the protocol, and all that its tools do with a memory must be possible with the public API",
	},
	"internal/agenttest": {
		ours: []string{".", "internal/tokens"},
		why:  "it looks at the program from outside, as agent programs and their users do",
	},
	"internal/access": {
		ours:   []string{".", "internal/wholefile"},
		others: []string{"github.com/gofrs/flock"},
		why:    "who may do what is known without a server and without a memory: the room knows scopes, and no Store",
	},
	"internal/serve": {
		ours:   []string{".", "internal/access", "internal/mcpserver", "prom"},
		others: []string{"github.com/modelcontextprotocol/go-sdk", "github.com/prometheus/client_golang", "golang.org/x/sync"},
		why:    "it knows HTTP, and who may call: what the calls do is for mcpserver to know",
	},
	"internal/testkit": {
		why: "every test may use it, so it knows nothing",
	},
	"internal/outbox": {
		ours: []string{"internal/engine", "internal/turn"},
		why:  "the outbox keeps bytes in order: what they do, and where, is for others to know",
	},
	"internal/doctor": {
		why: "it reads what SQLite cannot: the room knows file formats and shapes of tables, not what they are of",
	},
	"internal/embed": {
		others: []string{"golang.org/x/text", "github.com/rivo/uniseg"},
		why:    "texts become vectors without a database: what they are and where they are kept is for others to know",
	},
	"internal/engine": {
		why: "the seam knows no engine, or engines could not be exchanged",
	},
	"internal/engine/embedded": {
		ours:   []string{"internal/engine", "internal/turn"},
		others: []string{"modernc.org/sqlite"},
		why:    "of our memories only this room knows the SQLite driver, so that exchanging it is a change in one place",
	},
	"internal/engine/remote": {
		ours:   []string{"internal/engine", "internal/hrana", "internal/pool", "internal/turn"},
		others: []string{"github.com/failsafe-go/failsafe-go"},
		why:    "only this room repeats requests; the protocol below it knows nothing of our SQL",
	},
	"internal/engine/enginetest": {
		ours:   []string{"internal/engine"},
		others: []string{"pgregory.net/rapid"},
		why:    "the suite must be the same for every engine, so it knows none",
	},
	"internal/cache": {
		others: []string{"github.com/maypok86/otter/v2"},
		why:    "the cache keeps values of any kind: it knows neither what they are nor where they come from",
	},
	"internal/codec": {
		others: []string{"github.com/klauspost/compress", "github.com/pierrec/lz4/v4"},
		why:    "frames and dictionaries are bytes: the room knows neither episodes nor databases",
	},
	"internal/hrana": {
		others: []string{"google.golang.org/protobuf"},
		why:    "the protocol stands alone: it knows no SQL of ours and no pool",
	},
	"internal/hrana/hranatest": {
		why: "the test server speaks to the real program over the network, not through our own code",
	},
	"internal/eval": {
		why: "datasets and scores are the same whatever does the searching: the room knows neither Stores nor episodes",
	},
	"internal/feed": {
		ours: []string{"internal/engine"},
		why:  "the feed tells which items have changed, not what they are",
	},
	"internal/index": {
		ours:   []string{"internal/embed", "internal/engine", "internal/rank", "internal/vector"},
		others: []string{"golang.org/x/text", "github.com/blevesearch/go-porterstemmer"},
		why:    "texts are found by their words and by the built-in model: the room knows its own tables, and no noun",
	},
	"internal/rank": {
		why: "scores are pure functions of what was found: the room knows no text and no database",
	},
	"internal/redact": {
		why: "secrets are told by texts alone: the room knows no nouns and no database, so that anything can be redacted",
	},
	"internal/turn": {
		ours:   []string{"internal/userdir"},
		others: []string{"github.com/gofrs/flock"},
		why:    "whose turn it is can be tried without a database: files, clocks and numbers are all it knows",
	},
	"internal/live": {
		ours: []string{"internal/userdir"},
		why:  "what a process shows is bytes: the room knows neither Stores nor statistics",
	},
	"internal/userdir": {
		why: "what may be in the folder is for others to know",
	},
	"internal/payload": {
		ours: []string{"internal/engine", "internal/codec"},
		why:  "payloads are values of any type: the room knows their tables, not the nouns",
	},
	"internal/pool": {
		why: "the pool keeps connections of any kind: it knows no protocol, and nothing that has one",
	},
	"internal/replica": {
		ours: []string{"internal/engine", "internal/feed", "internal/turn"},
		why:  "rows are copied as they are: the room knows tables and positions, not nouns, payloads or the index",
	},
	"internal/schema": {
		ours: []string{"internal/engine"},
		why:  "migrations run on any engine",
	},
	"internal/tokens": {
		why: "tokens are counted in any text: the room knows no nouns",
	},
	"internal/vector": {
		why: "vectors are numbers with an id: the room knows neither databases nor what they were made of",
	},
	"otel": {
		ours:   []string{"."},
		others: []string{"go.opentelemetry.io/otel"},
		why:    "only this room knows OpenTelemetry, so that nobody else links it",
	},
	"prom": {
		ours:   []string{"."},
		others: []string{"github.com/prometheus/client_golang"},
		why:    "only this room knows Prometheus, so that nobody else links it; what it exports, the public API must give",
	},
}

// testRooms may only be imported by tests: what tests need must not reach users'
// binaries.
var testRooms = []string{"internal/testkit", "internal/engine/enginetest", "internal/hrana/hranatest"}

// testOthers are modules of others that any test may use.
var testOthers = []string{"pgregory.net/rapid", "go.uber.org/goleak"}

func TestImports(t *testing.T) {
	packages := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bench") {
				return filepath.SkipDir // bench is a module of its own
			}
			return nil
		}
		if path.Ext(file) == ".go" {
			packages++
			checkImports(t, filepath.ToSlash(file))
		}
		return nil
	})
	ok(t, err)
	if packages < len(rooms) {
		t.Errorf("only %d files were looked at", packages)
	}
	for dir := range rooms {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("the table names %s, which does not exist", dir)
		}
	}
}

func checkImports(t *testing.T, file string) {
	dir := path.Dir(file)
	r, known := rooms[dir]
	if !known {
		t.Errorf("%s: package %s is not in the table of arch_test.go and docs/design.md: say there what it may import and why", file, dir)
		return
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	ok(t, err)
	test := strings.HasSuffix(file, "_test.go")
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		ok(t, err)
		first, _, _ := strings.Cut(imported, "/")
		allowed := false
		switch {
		case !strings.Contains(first, "."):
			continue // standard library
		case imported == module:
			allowed = slices.Contains(r.ours, ".") || test
		case strings.HasPrefix(imported, module+"/"):
			rel := strings.TrimPrefix(imported, module+"/")
			// A room's tests may use every room; what they need stays out of users' binaries.
			allowed = slices.Contains(r.ours, rel) || test
			if !test && slices.Contains(testRooms, rel) {
				allowed = false
			}
		default:
			allowed = among(r.others, imported) || test && among(testOthers, imported)
		}
		if !allowed {
			t.Errorf("%s imports %s, which %s may not: %s", file, imported, dir, r.why)
		}
	}
}

func among(modules []string, imported string) bool {
	return slices.ContainsFunc(modules, func(m string) bool { return imported == m || strings.HasPrefix(imported, m+"/") })
}
