package episodic

import (
	"context"

	"github.com/episodic-memory/episodic/internal/engine"
)

// unitReceipts are the receipts of episodes that are stored together. Its methods do nothing if
// it is nil, since none were asked for.
type unitReceipts struct {
	each   []*receipting
	states engine.Stmt
}

// receiptsOfUnit begins the receipts of a unit's episodes, if ctx asks for them.
func (s *Store) receiptsOfUnit(ctx context.Context, u *addUnit) (*unitReceipts, error) {
	if receiptsOf(ctx) == nil {
		return nil, nil
	}
	rs := &unitReceipts{each: make([]*receipting, len(u.rows))}
	ids := make([]ID, len(u.rows))
	for i, w := range u.rows {
		var err error
		if rs.each[i], err = s.receipt(ctx, &putEpisode{Episode: u.episodes[i], Rev: w.rev}); err != nil {
			return nil, err
		}
		rs.each[i].r.Revision, ids[i] = w.rev, w.id
	}
	rs.states = statesStmt(&rs.each[0].r, ids...)
	return rs, nil
}

// ask and answer are those of receipting.
func (rs *unitReceipts) ask(stmts []engine.Stmt) []engine.Stmt {
	if rs == nil {
		return stmts
	}
	return append(stmts[:len(stmts):len(stmts)], rs.states)
}

func (rs *unitReceipts) answer(results []engine.Result) []engine.Result {
	if rs == nil || len(results) == 0 {
		return results
	}
	last := len(results) - 1
	rs.read(results[last])
	return results[:last]
}

func (rs *unitReceipts) read(states engine.Result) {
	for _, row := range states.Rows {
		// One of another revision tells of a later state, or of an episode that was there before.
		if st, err := stateFrom(row); err == nil && st.revision == rs.each[st.at].r.Revision {
			rs.each[st.at].in(st)
		}
	}
}

// again asks for what an answer that was lost has told.
func (rs *unitReceipts) again(ctx context.Context, s *Store) {
	if rs == nil {
		return
	}
	if results, err := s.engine.Query(ctx, rs.states); err == nil {
		rs.read(results[0])
	}
}

// stored hands over the receipt of an episode that was stored.
func (rs *unitReceipts) stored(i int) {
	if rs != nil {
		rs.each[i].take(rs.each[i].r)
	}
}
