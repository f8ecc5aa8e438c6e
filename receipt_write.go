package episodic

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/feed"
)

// receipting is the receipt of an operation that is being carried out. Its methods do nothing if
// it is nil, since none was asked for.
type receipting struct {
	take     func(Receipt)
	o        operation
	r        Receipt
	answered bool  // r tells of a state in which the write is stored
	steps    []any // the payload and count that were stored with the key of an append that the caller has named
}

// receipt begins the receipt of an operation, if ctx asks for one.
func (s *Store) receipt(ctx context.Context, o operation) (*receipting, error) {
	take := receiptsOf(ctx)
	if take == nil {
		return nil, nil
	}
	p := &receipting{take: take, o: o}
	kind, item, _ := kindOf(o)
	p.r = Receipt{Write: queuedKinds[kind-1].name, Kind: ItemEpisode, ID: item}
	var err error
	switch o := o.(type) {
	case *putEpisode:
		p.r.Hash, err = o.Episode.contentHash()
	case *appendSteps:
		p.r.Steps = len(o.Steps)
		p.r.Hash, err = stepsHash(timed(o.Steps, o.Now))
	case *putPattern:
		p.r.Kind = ItemPattern
		p.r.Hash, err = o.Pattern.contentHash()
	case *putHeuristic:
		p.r.Kind = ItemHeuristic
		p.r.Hash, err = o.Heuristic.contentHash()
	case *deleteItem:
		p.r.Kind = o.Kind
	case *putRelation:
		p.r.Type, p.r.To = o.Relation.Type, o.Relation.To
		p.r.Hash, err = o.Relation.contentHash()
	case *deleteRelation:
		p.r.Type, p.r.To = o.Type, o.To
	case *putEmbedding:
		p.r.Kind, p.r.Model, p.r.Hash = o.Embedding.Kind, o.Embedding.Model, o.Embedding.contentHash(s.vectors)
	case *deleteEmbedding:
		p.r.Kind, p.r.Model = o.Kind, o.Model
	}
	if err != nil {
		return nil, encodeFailed("receipt", err)
	}
	return p, nil
}

const (
	// The last change of each item in a list, of which %d is the kind in the feed, with its
	// revision. It tells of what has no row in the feed, too.
	sqlStates = `SELECT j.key, f.n, f.gone_us, ifnull(iif(f.scope, (SELECT text FROM scopes WHERE scopes.n = f.scope), ''), ''), %s, life, forgotten
 FROM feed_state, json_each(?) j LEFT JOIN feed f ON f.n = (SELECT max(n) FROM feed WHERE item = unhex(j.value) AND kind = %d)`
	sqlStateRev = `(SELECT rev FROM %ss WHERE id = unhex(j.value))`
	sqlAppended = `SELECT payload, count FROM appends WHERE id = ? AND key = ?`
	sqlTags     = `SELECT json_group_array(tag) FROM (SELECT tag FROM tags WHERE episode = ` + bySeq + ` ORDER BY pos)`
)

// feedKind is the kind of the change that the feed has of the write, and the SQL of the
// revision of what it concerns.
func (r *Receipt) feedKind() (kind feed.Kind, revision string) {
	switch r.Write {
	case wroteRelation, deletedRelation:
		return feed.Relations, "NULL"
	case wroteEmbedding, deletedEmbedding:
		return feed.Embeddings, "NULL"
	}
	kind = map[ItemKind]feed.Kind{ItemEpisode: feed.Episode, ItemPattern: feed.Pattern, ItemHeuristic: feed.Heuristic}[r.Kind]
	return kind, fmt.Sprintf(sqlStateRev, r.Kind)
}

// statesStmt asks for the states of items, which the receipts of one kind of change name.
func statesStmt(like *Receipt, ids ...ID) engine.Stmt {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = hex.EncodeToString(id[:])
	}
	list, _ := json.Marshal(texts) // texts can always be marshalled
	kind, revision := like.feedKind()
	return engine.Stmt{SQL: fmt.Sprintf(sqlStates, revision, kind), Args: []any{string(list)}}
}

// itemState is what the database says of an item.
type itemState struct {
	at        int64 // its place in the list that was asked for
	seq       int64 // of its last change; 0: the feed knows none
	goneUs    int64 // when it was deleted; 0: it was not
	scope     Scope
	revision  int64 // 0: it is not there, or has none
	database  string
	forgotten int64 // changes up to here may have been forgotten
}

func stateFrom(row []any) (st itemState, err error) {
	in := engine.Row{Values: row}
	st.at, st.database, st.forgotten = in.Int(0), hex.EncodeToString(in.Blob(5)), in.Int(6)
	if row[1] != nil {
		st.seq = in.Int(1)
	}
	if row[2] != nil {
		st.goneUs = in.Int(2)
	}
	st.scope = scopeIn(&in, 3, scopeFrom)
	if row[4] != nil {
		st.revision = in.Int(4)
	}
	if in.Err != nil {
		return st, fmt.Errorf("the state of an item: %w: %w", ErrCorrupt, in.Err)
	}
	return st, nil
}

// ask adds to the statements of an operation those that tell what the receipt says.
func (p *receipting) ask(stmts []engine.Stmt) []engine.Stmt {
	if p == nil {
		return stmts
	}
	return append(stmts[:len(stmts):len(stmts)], p.stmts()...)
}

func (p *receipting) stmts() []engine.Stmt {
	stmts := []engine.Stmt{statesStmt(&p.r, p.r.ID)}
	if o, ok := p.o.(*appendSteps); ok && o.named {
		stmts = append(stmts, engine.Stmt{SQL: sqlAppended, Args: []any{o.ID.bytes(), o.Key}})
	}
	if p.r.Write == wroteTags {
		stmts = append(stmts, engine.Stmt{SQL: sqlTags, Args: []any{p.r.ID.bytes()}})
	}
	return stmts
}

// answer takes the results of what ask has added away from those of an operation. What cannot be
// read of them is asked for again.
func (p *receipting) answer(results []engine.Result) []engine.Result {
	if p == nil || len(results) == 0 {
		return results
	}
	own := len(results) - len(p.stmts())
	p.answered = p.read(results[own:]) == nil
	return results[:own]
}

func (p *receipting) read(results []engine.Result) error {
	if len(results[0].Rows) != 1 {
		return fmt.Errorf("%w: the table feed_state has %d rows, want 1", ErrCorrupt, len(results[0].Rows))
	}
	st, err := stateFrom(results[0].Rows[0])
	if err == nil && p.r.Write == wroteTags {
		var tags []string
		if tags, err = tagsFrom(results[1].Rows[0][0]); err == nil {
			p.r.Hash, err = tagsHash(tags)
		}
	}
	if o, ok := p.o.(*appendSteps); ok && o.named && len(results[1].Rows) == 1 {
		p.steps = results[1].Rows[0]
	}
	if err == nil {
		p.in(st)
	}
	return err
}

// in notes the state in which the write is stored.
func (p *receipting) in(st itemState) {
	p.r.Revision, p.r.Seq, p.r.Database, p.r.Scope = st.revision, st.seq, st.database, st.scope
}

// stored hands over the receipt of an operation that s has carried out; queued is its name in
// the outbox, 0 if it is not queued. The error says that there is no receipt, though it is stored.
func (p *receipting) stored(ctx context.Context, s *Store, queued int64) error {
	if p == nil {
		return nil
	}
	var err error
	if !p.answered { // the answer was lost, or nothing had to be written
		var results []engine.Result
		if results, err = s.engine.Query(ctx, p.stmts()...); err == nil {
			err = p.read(results)
		}
	}
	rev := p.r.Revision
	switch o := p.o.(type) {
	case *putEpisode:
		rev = o.Rev
	case *putPattern:
		rev = o.Rev
	case *putHeuristic:
		rev = o.Rev
	case *completeEpisode:
		rev = o.made
		p.r.Hash, err = o.stored.headHash()
	case *appendSteps:
		p.r.First = o.first
		if o.named {
			err = p.appendedBefore(ctx, s)
		}
	}
	if rev != p.r.Revision { // it is not known, or others have changed the item before the answer
		p.r.Revision, p.r.Seq, p.r.Database = rev, 0, ""
	}
	if queued != 0 {
		p.r.Queued, p.r.Seq, p.r.Database = queued, 0, ""
	}
	if p.r.Hash == "" && !p.r.deletes() {
		return fmt.Errorf("it is stored, but its receipt could not be read: %w", err)
	}
	p.take(p.r)
	return nil
}

// appendedBefore hashes the steps that are stored with the key of an append: they may be those of
// an earlier one, which had other times.
func (p *receipting) appendedBefore(ctx context.Context, s *Store) error {
	p.r.Hash = ""
	var run storedSteps
	in := engine.Row{Values: p.steps}
	count := in.Int(1)
	if err := cmp.Or(in.Err, s.payloads.Decode(ctx, p.steps[0], boundRun(p.r.ID, int(count)), &run)); err != nil {
		return err
	}
	steps := make([]Step, len(run.steps))
	for i, step := range run.steps {
		steps[i] = Step(step)
	}
	var err error
	p.r.Steps = len(steps)
	p.r.Hash, err = stepsHash(steps)
	return err
}
