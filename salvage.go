package episodic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/episodic-memory/episodic/internal/doctor"
	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/engine/embedded"
	"github.com/episodic-memory/episodic/internal/schema"
)

// SalvageReport is what Salvage has saved, and what was lost.
type SalvageReport struct {
	From string `json:"from"`
	To   string `json:"to"`
	// HeaderRead and SchemaRead say whether the header of the file, and all of its schema, could
	// be read; what they would have told was found out otherwise.
	HeaderRead bool `json:"header_read"`
	SchemaRead bool `json:"schema_read"`
	// Pages is how many the file had. MissingPages are behind its end now, UnreadablePages
	// are damaged, and StrayPages hold rows although nothing leads to them any more.
	Pages           int64 `json:"pages"`
	MissingPages    int64 `json:"missing_pages"`
	UnreadablePages int64 `json:"unreadable_pages"`
	StrayPages      int64 `json:"stray_pages"`
	// LogFrames are pages in the log that count, DamagedFrames those whose checksums are wrong.
	LogFrames     int64 `json:"log_frames"`
	DamagedFrames int64 `json:"damaged_log_frames"`
	// UnreadableRows are on pages that could be read. RefusedRows name what is not there,
	// such as a dictionary.
	UnreadableRows int64 `json:"unreadable_rows"`
	RefusedRows    int64 `json:"refused_rows"`
	// Saved is what the new file holds.
	Saved Counts `json:"saved"`
	// Left are findings about rows that were saved from the file, and could not be left in the
	// new one, because they cannot be decoded or their owner is lost.
	Left []Finding `json:"left_out,omitempty"`
	// Lost are the items that are known to have been in the file, and are not in the new one, at
	// most 1,000; LostItems is how many they are.
	Lost      []LostItem `json:"lost,omitempty"`
	LostItems int64      `json:"lost_items"`
}

// LostItem is an item that could not be saved.
type LostItem struct {
	Kind ItemKind `json:"kind"`
	ID   ID       `json:"id"`
}

// maxLost is how many items a SalvageReport names.
const maxLost = 1000

// Salvage reads a damaged file page by page, also one that SQLite does not open, because its
// header, its schema or its end is lost, and stores what it holds in a new file, to, which must not be
// there. Its log is read too, if it has one. from is not written. An item is saved as a whole or
// not at all; what was deleted is not brought back, as far as the file still says that it was. The
// new file is a memory of its own: it is linked to no server, and who has read the change feed of
// the old one reads it from the beginning. opts is as for Open; nil gives the defaults.
//
// Errors: ErrInvalid; ErrNotFound if from is not there; ErrSchema if it holds no page of a
// memory; Retryable ones, if it is open.
func Salvage(ctx context.Context, from, to string, opts *Options) (_ *SalvageReport, err error) {
	if opts == nil {
		opts = &Options{}
	}
	var paths [2]string
	for i, file := range []string{from, to} {
		if paths[i], err = localPath(file); err != nil {
			return nil, fmt.Errorf("salvage: %w", err)
		}
	}
	if _, err := os.Lstat(paths[1]); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("salvage: %w", errors.Join(invalid("to", "%s is there already; name a file that is not", paths[1]), err))
	}
	claimed, err := embedded.Claim(paths[0])
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("salvage %s: %w: there is no such file", paths[0], ErrNotFound)
	}
	if err != nil {
		return nil, failed(err, "salvage %s", paths[0])
	}
	r, err := salvageInto(ctx, paths[0], paths[1], opts)
	return r, failed(errors.Join(err, claimed.Close()), "salvage %s", paths[0])
}

// salvageInto salvages a file that nobody else uses.
func salvageInto(ctx context.Context, from, to string, o *Options) (_ *SalvageReport, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(to), ".episodic-doctor-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	made := filepath.Join(dir, "memory.db")
	r, err := salvage(ctx, from, made, o)
	if err != nil {
		return nil, err
	}
	r.From, r.To = from, to
	return r, embedded.Publish(made, to, false)
}

// salvage makes a new file, which is whole when it returns.
func salvage(ctx context.Context, from, to string, o *Options) (_ *SalvageReport, err error) {
	file, err := doctor.Open(from)
	if errors.Is(err, doctor.ErrNoDatabase) {
		err = &engine.Error{Kind: engine.KindNotADatabase, Stmt: -1, Err: err}
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	e, err := embedded.Open(ctx, embedded.Config{Path: to, NetworkFile: true, LockDir: filepath.Dir(to), Disposable: true})
	if err != nil {
		return nil, err
	}
	r, err := salvageRows(ctx, file, e, o)
	if err == nil {
		_, err = e.Shrink(ctx) // what making the index has left free
	}
	if err = errors.Join(err, e.Close()); err != nil {
		return nil, err
	}
	return r, embedded.Sole(ctx, to)
}

func salvageRows(ctx context.Context, file *doctor.File, e engine.Engine, o *Options) (*SalvageReport, error) {
	if err := schema.Migrate(ctx, e, true); err != nil {
		return nil, err
	}
	w := &salvager{engine: e}
	if err := w.run(ctx, file); err != nil {
		return nil, err
	}
	r := &SalvageReport{RefusedRows: w.refused}
	found := w.atlas.Found
	r.HeaderRead, r.SchemaRead, r.Pages, r.MissingPages, r.UnreadablePages, r.StrayPages = found.Header, found.Schema, found.Pages, found.Missing, found.Unreadable, found.Stray
	r.LogFrames, r.DamagedFrames, r.UnreadableRows = found.LogFrames, found.BadFrames, found.Rows
	left, err := mendContent(ctx, e, o)
	if err != nil {
		return nil, err
	}
	for _, f := range left {
		if f.Check != checkedIndex {
			r.Left = append(r.Left, f)
		}
	}
	if r.Lost, r.LostItems, err = w.lost(ctx); err != nil {
		return nil, err
	}
	s := newStore(e, o, nil, true)
	defer s.closeRooms()
	r.Saved, err = s.Counts(ctx)
	return r, err
}

// mendRounds is how often content is mended at most: what was mended may show more.
const mendRounds = 4

// mendContent mends what can be mended of what a database of the newest schema holds, and
// returns what was found.
func mendContent(ctx context.Context, e engine.Engine, o *Options) (mended []Finding, err error) {
	for range mendRounds {
		x := &Examination{Newest: schema.Newest()}
		if err := x.examineContent(ctx, e, o); err != nil {
			return nil, err
		}
		n := len(mended)
		s := newStore(e, o, nil, true)
		for _, f := range x.Findings {
			if f.mend == nil || err != nil {
				continue
			}
			if err = f.mend(ctx, s); err == nil {
				mended = append(mended, f)
			}
		}
		s.closeRooms()
		if err != nil || len(mended) == n {
			return mended, err
		}
	}
	return mended, nil
}
