package episodic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/schema"
)

// ProbeReport is what Probe found out about a target, as far as it got.
type ProbeReport struct {
	Target string `json:"target"` // without secrets
	// Usable says that Open could make a memory there, or use the one that is
	// there. If the server refuses writes it can only be read; see Server.Writes.
	Usable bool `json:"usable"`
	// Reason is why the target is not usable, and what to do about it; empty if it
	// is.
	Reason   string          `json:"reason,omitempty"`
	Server   *ProbedServer   `json:"server,omitempty"`   // nil for a file
	File     *ProbedFile     `json:"file,omitempty"`     // nil for a server
	Database *ProbedDatabase `json:"database,omitempty"` // nil if no statement could be run
	// Problems are the checks that failed, in the order in which they were made.
	// What a failed check would have found out is the zero value.
	Problems []ProbeProblem `json:"problems,omitempty"`
}

// ProbeProblem is a check that failed, and why.
type ProbeProblem struct {
	Check string `json:"check"`
	Error string `json:"error"`
}

// ProbedServer is a libSQL server and the way to it. Times are in milliseconds.
type ProbedServer struct {
	// Addresses are the host's; none if an HTTP proxy, whose host and port Proxy
	// is, stands in between.
	Addresses []string `json:"addresses,omitempty"`
	Proxy     string   `json:"proxy,omitempty"`
	// HTTP are the versions the server speaks: 1.1, which episodic uses, and 2 if
	// it agrees to it on TLS.
	HTTP []string `json:"http,omitempty"`
	// TLS is the version in use, such as "TLS 1.3"; empty without TLS.
	TLS string `json:"tls,omitempty"`
	// CertificateExpires is when the first of the server's certificates does.
	CertificateExpires time.Time `json:"certificate_expires,omitzero"`
	Version            string    `json:"version,omitempty"`       // what the server says it is
	ServerHeader       string    `json:"server_header,omitempty"` // of HTTP; names a gateway, if one answers
	// Protocols are those the server says it speaks; Protocol is the one in which
	// a statement was answered, empty if none was.
	Protocols []string `json:"protocols,omitempty"`
	Protocol  string   `json:"protocol,omitempty"`
	// Token is "accepted", "refused", "missing", or "not needed": the server
	// answers without one.
	Token string `json:"token,omitempty"`
	// Role is "primary", which a server alone is too, or "replica"; empty if that is
	// unknown. Primary says of a replica whether its primary "answers" it or "does not
	// answer"; which server that is, a replica does not tell. Lag is by how many frames,
	// pages of the log, it was behind; nil if that is unknown, as to a token that only
	// reads.
	Role    string  `json:"role,omitempty"`
	Primary string  `json:"primary,omitempty"`
	Lag     *uint64 `json:"lag_frames,omitempty"`
	// Writes is "allowed", "forbidden" by the token, or "busy": another program is
	// writing. Nothing was written to find out.
	Writes string `json:"writes,omitempty"`
	// ReplicationIndex is the highest that came with an answer. None, 0, comes
	// from a database that nothing was ever written to, too.
	ReplicationIndex uint64 `json:"replication_index"`
	// RetryAfter is the last such header of an answer: the server is overloaded.
	RetryAfter string `json:"retry_after,omitempty"`
	// BaseURL is where the server wants streams to go on, if not where they began.
	BaseURL string `json:"base_url,omitempty"`
	// LargestValue is the size, in bytes, of the largest value that the server
	// made, and RefusedValue of the smallest that it refused; 0 if it refused none
	// of those tried, the largest of which has 100 MB.
	LargestValue int64 `json:"largest_value_bytes,omitempty"`
	RefusedValue int64 `json:"refused_value_bytes,omitempty"`
	Parameters   int64 `json:"parameters,omitempty"` // that a statement may have; 0 if unknown
	KeepAlive    bool  `json:"keep_alive"`           // the server keeps HTTP connections open

	Resolve    float64 `json:"resolve_ms,omitempty"`     // looking up the host's addresses
	Cold       float64 `json:"cold_ms,omitempty"`        // a new connection, TLS, and the first answer on it
	Warm       float64 `json:"warm_ms,omitempty"`        // an answer without SQL on the kept connection, median of nine
	FirstQuery float64 `json:"first_query_ms,omitempty"` // the first SELECT 1, which may wake a sleeping database
	NewStream  float64 `json:"new_stream_ms,omitempty"`  // a SELECT 1 that opens and closes a stream, median of nine
	KeptStream float64 `json:"kept_stream_ms,omitempty"` // a SELECT 1 on an open stream, median of nine
}

// ProbedFile is a local file.
type ProbedFile struct {
	Path        string `json:"path"` // absolute
	Exists      bool   `json:"exists"`
	Size        int64  `json:"size_bytes"` // without the -wal file beside it
	JournalMode string `json:"journal_mode,omitempty"`
}

// ProbedDatabase is what is inside of the file or behind the server.
type ProbedDatabase struct {
	SQLite  string `json:"sqlite,omitempty"` // version
	FTS5    bool   `json:"fts5"`             // full-text search, which episodic needs
	JSON    bool   `json:"json"`             // JSON functions, which episodic needs
	Vectors bool   `json:"vectors"`          // vector functions, which episodic does not need
	// Holds is "nothing", "memory", or "other": Tables, at most five, are another
	// program's.
	Holds         string   `json:"holds,omitempty"`
	SchemaVersion int64    `json:"schema_version,omitempty"` // of the memory
	Tables        []string `json:"tables,omitempty"`
}

// probeTimeout bounds each check.
const probeTimeout = 5 * time.Second

// neededChecks are those whose failure makes a target unusable.
var neededChecks = []string{"file", "address", "connection", "first query", "writing", "SQLite", "FTS5", "JSON", "holds"}

// Probe finds out what is at target, which is as in Open, and what it can do: it
// measures the way to a server, asks for its limits, and looks at what the
// database holds. It writes nothing and creates nothing. A check that fails, or
// takes longer than 5 s, is one of the report's problems; the others go on if
// they can. Errors: ErrInvalid for a target or an option that cannot be; ctx's own. A nil
// opts gives the defaults; MustExist does not matter.
func Probe(ctx context.Context, target string, opts *Options) (*ProbeReport, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	o.MustExist = true
	t, err := parseTarget(target, o.AllowPlaintext)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	r := &ProbeReport{Target: t.String()}
	if t.path != "" {
		r.probeFile(ctx, t, &o)
	} else {
		server, err := o.remoteConfig(t)
		if err != nil {
			return nil, fmt.Errorf("probe: %w", err)
		}
		r.probeServer(ctx, t, &o, server)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("probe %s: %w", t, err)
	}
	r.judge()
	return r, nil
}

func (r *ProbeReport) probeServer(ctx context.Context, t target, o *Options, c remote.Config) {
	server, failures := remote.Probe(ctx, c)
	r.Server = (*ProbedServer)(server)
	for _, f := range failures {
		r.Problems = append(r.Problems, ProbeProblem(f))
	}
	if server.Protocol == "" {
		return // nothing more can be learned
	}
	var e engine.Engine
	if r.check(ctx, "SQLite", func(ctx context.Context) (err error) { e, err = openEngine(ctx, t, o, nil); return err }) {
		r.probeDatabase(ctx, e)
	}
}

func (r *ProbeReport) probeFile(ctx context.Context, t target, o *Options) {
	r.File = &ProbedFile{Path: t.path}
	var e engine.Engine
	if !r.check(ctx, "file", func(ctx context.Context) error {
		if abs, err := filepath.Abs(t.path); err == nil {
			r.File.Path = abs
		}
		info, err := os.Stat(t.path)
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("there is no such file")
		}
		if err != nil {
			return err
		}
		r.File.Exists, r.File.Size = true, info.Size()
		e, err = openEngine(ctx, t, o, nil)
		return err
	}) {
		return
	}
	r.probeDatabase(ctx, e)
}

// probeDatabase closes e.
func (r *ProbeReport) probeDatabase(ctx context.Context, e engine.Engine) {
	defer r.check(ctx, "closing", func(context.Context) error { return e.Close() })
	d := &ProbedDatabase{}
	if !r.check(ctx, "SQLite", func(ctx context.Context) error {
		version, err := value(ctx, e, "SELECT sqlite_version()")
		d.SQLite, _ = version.(string)
		return err
	}) {
		return
	}
	r.Database = d
	if r.File != nil {
		r.check(ctx, "journal mode", func(ctx context.Context) error {
			mode, err := value(ctx, e, "PRAGMA journal_mode")
			r.File.JournalMode, _ = mode.(string)
			return err
		})
	}
	for _, f := range []struct {
		check string
		sql   string
		has   *bool
	}{
		{"FTS5", "SELECT fts5_source_id()", &d.FTS5},
		{"JSON", "SELECT json_group_array(value) FROM json_each('[1]')", &d.JSON},
		{"vectors", "SELECT vector_distance_cos(vector32('[1,0]'), vector32('[0,1]'))", &d.Vectors},
	} {
		r.check(ctx, f.check, func(ctx context.Context) error {
			_, err := value(ctx, e, f.sql)
			*f.has = err == nil
			if err != nil && strings.Contains(err.Error(), "no such function") {
				return nil
			}
			return err
		})
	}
	r.check(ctx, "holds", func(ctx context.Context) error { return r.contents(ctx, e) })
}

// contents finds out whose database it is.
func (r *ProbeReport) contents(ctx context.Context, e engine.Engine) error {
	err := schema.Migrate(ctx, lookOnly{e}, false)
	newer, isNewer := errors.AsType[*schema.NewerError](err)
	foreign, isForeign := errors.AsType[*schema.ForeignError](err)
	switch {
	case errors.Is(err, schema.ErrEmpty):
		r.Database.Holds = "nothing"
	case isNewer:
		r.Database.Holds, r.Database.SchemaVersion, r.Reason = "memory", newer.Found, newer.Error()
	case isForeign:
		r.Database.Holds, r.Database.Tables, r.Reason = "other", foreign.Tables, foreign.Error()
	case err == nil, errors.Is(err, errLookOnly): // an older one, which Open would upgrade
		r.Database.Holds = "memory"
		version, err := value(ctx, e, "SELECT max(version) FROM episodic_migrations")
		r.Database.SchemaVersion, _ = version.(int64)
		return err
	default:
		return err
	}
	return nil
}

// judge says whether the target is usable, now that all is known.
func (r *ProbeReport) judge() {
	for _, p := range r.Problems {
		if r.Reason == "" && slices.Contains(neededChecks, p.Check) {
			r.Reason = p.Check + ": " + p.Error
		}
	}
	d := r.Database
	switch {
	case r.Reason != "":
	case !d.FTS5:
		r.Reason = "it lacks the full-text search FTS5; choose another database"
	case !d.JSON:
		r.Reason = "it lacks JSON functions; choose another database"
	case d.Holds == "nothing" && r.Server != nil && r.Server.Writes == "forbidden":
		r.Reason = "there is no memory yet, and the token may not write; use a token that may"
	}
	r.Usable = r.Reason == ""
}

// check calls f and records it as a problem if it fails.
func (r *ProbeReport) check(ctx context.Context, name string, f func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := f(ctx)
	if err == nil {
		return true
	}
	text := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text = fmt.Sprintf("no answer within %v", probeTimeout)
	}
	r.Problems = append(r.Problems, ProbeProblem{name, text})
	return false
}

// value runs a statement that gives one value.
func value(ctx context.Context, e engine.Engine, sql string) (engine.Value, error) {
	r, err := e.Query(ctx, engine.Stmt{SQL: sql})
	if err != nil {
		return nil, err
	}
	if len(r[0].Rows) != 1 || len(r[0].Rows[0]) != 1 {
		return nil, fmt.Errorf("%s gave %d rows", sql, len(r[0].Rows))
	}
	return r[0].Rows[0][0], nil
}

// lookOnly keeps an engine from writing.
type lookOnly struct{ engine.Engine }

var errLookOnly = errors.New("the engine must not write")

func (lookOnly) Batch(context.Context, ...engine.Stmt) ([]engine.Result, error) {
	return nil, errLookOnly
}

func (lookOnly) Repeatable(context.Context, ...engine.Stmt) ([]engine.Result, error) {
	return nil, errLookOnly
}
