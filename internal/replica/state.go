package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic/internal/engine"
)

// ErrReset says that a replica cannot be mended in place: close it, delete its files with
// Remove, and have it made anew.
var ErrReset = errors.New("the replica cannot be used; delete its file, and it is made anew")

// position says what of the server is here.
type position struct {
	life   []byte // of the server's database; empty: nothing was ever pulled
	schema int64  // the server's version when it was last looked at
	upto   int64  // all changes up to this number are here, unless items are missing
	// downto: of what last changed before the first fill, items whose number is at least
	// downto are here, and those of less are missing. 0: none is missing.
	downto    int64
	remaining int64 // about how many are missing
	// anew: what was here before the fill began may be of another database, or of another
	// state of it. What the fill does not find on the server is deleted when it ends.
	anew bool

	refused time.Time // since when the server refuses to be read; zero: it does not
	// since: episodes that began before it, in µs, are not held. 0: all are. The bounds that
	// raise it; 0: none.
	since    int64
	maxAge   time.Duration
	maxBytes int64

	dictionaries string // ids of those that are here, a JSON array
}

func (p *position) filling() bool { return p.downto > 0 }

const sqlPosition = `SELECT version, life, server_schema, upto, downto, remaining, anew, refused_us, (SELECT json_group_array(id) FROM dictionaries), since_us, max_age_us, max_bytes FROM replica`

func readPosition(ctx context.Context, local engine.Engine) (position, error) {
	r, err := local.Query(ctx, engine.Stmt{SQL: sqlPosition})
	if err != nil {
		return position{}, fmt.Errorf("read the replica's position: %w", err)
	}
	if len(r[0].Rows) != 1 {
		return position{}, fmt.Errorf("%w: the table replica has %d rows, want 1", ErrReset, len(r[0].Rows))
	}
	in := engine.Row{Values: r[0].Rows[0]}
	version := in.Int(0)
	p := position{life: in.Blob(1), schema: in.Int(2), upto: in.Int(3), downto: in.Int(4), remaining: in.Int(5), anew: in.Int(6) != 0, dictionaries: in.Text(8),
		since: in.Int(9), maxAge: time.Duration(in.Int(10)) * time.Microsecond, maxBytes: in.Int(11)}
	if us := in.Int(7); us != 0 {
		p.refused = time.UnixMicro(us)
	}
	switch {
	case in.Err != nil:
		return position{}, fmt.Errorf("%w: the table replica: %w", ErrReset, in.Err)
	case version != tablesVersion:
		return position{}, fmt.Errorf("%w: its tables are of version %d, this program's of version %d", ErrReset, version, tablesVersion)
	}
	return p, nil
}

// Status says how new a replica is.
type Status struct {
	// AsOf is a time at which the server had nothing that is not here; zero if pages of a
	// pull are missing, or while the replica is made anew.
	AsOf time.Time
	// LastAsOf is AsOf as it was before pages were missing.
	LastAsOf time.Time
	// Behind says that a pull takes several pages, some of which are missing: what is here
	// is no state of one moment.
	Behind bool
	// Complete says that no items are missing that were on the server before the first pull,
	// within the bounds.
	Complete bool
	// Since is the start of the first episodes that are held, by the bounds; zero: all are.
	Since time.Time
	// Anew says that the server's database is another one than before, or an older copy of
	// it. Items may be here that it does not have, until all of its own have come.
	Anew bool
	// Remaining is about how many items the fill has yet to bring.
	Remaining int64
	// Down is the error of the last pull, and DownSince when the first of those that failed
	// in a row did; nil and zero after one that succeeded.
	Down      error
	DownSince time.Time
	// Took is how long the last step of a pull that succeeded took.
	Took time.Duration
	// Schema is the server's schema version when it was last looked at; 0: never.
	Schema int64
	// Upto is the number of the server's change up to which all are here.
	Upto int64

	// What this process has pulled since New.
	Pulls   uint64 // looks at the server that succeeded
	Pages   uint64 // transactions that stored what was fetched
	Items   uint64 // changed items that were stored or deleted by them
	Payload uint64 // bytes of the payloads and vectors that were stored
}

// ServerSchema returns the version of the server's schema when it was last looked at, 0 if it
// never was. local has been prepared.
func ServerSchema(ctx context.Context, local engine.Engine) (int64, error) {
	p, err := readPosition(ctx, local)
	return p.schema, err
}

// ForgetServerSchema makes ServerSchema 0, until the next look, for a server that has lost
// its tables.
func ForgetServerSchema(ctx context.Context, local engine.Engine) error {
	_, err := local.Repeatable(ctx, engine.Stmt{SQL: `UPDATE replica SET server_schema = 0`})
	return err
}
