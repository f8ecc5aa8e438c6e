package episodic

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/outbox"
)

func TestBatches(t *testing.T) {
	a, b := ID{1}, ID{2}
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	start := func(id ID) operation {
		return &putEpisode{Episode: &Episode{ID: id, Description: "d", TaskType: TaskOther, Start: now}, Rev: newRevision(), New: true}
	}
	step := func(id ID, key string) operation {
		return &appendSteps{ID: id, Key: []byte(key), Steps: []Step{{Number: 7, Tool: "t"}}, Now: now}
	}
	end := func(id ID) operation {
		return &completeEpisode{ID: id, Completion: Completion{Outcome: Outcome{Kind: Success}}, Rev: newRevision(), Now: now}
	}
	tag := func(id ID) operation { return &changeTags{ID: id, Tags: []string{"x"}, Add: true, Rev: newRevision()} }
	const random, once = "8 bytes!", "sixteen bytes ok"
	tests := []struct {
		name string
		ops  []operation
		want string // the groups, and after a slash how many operations the batch has
	}{
		{"a whole life", []operation{start(a), step(a, random), step(a, random), end(a)}, "put:2:ended /4"},
		{"two lives at once", []operation{start(a), start(b), step(a, random), step(b, random), end(b), end(a)}, "put:1:ended put:1:ended /6"},
		{"steps of two episodes", []operation{step(a, random), step(b, random), step(a, random)}, "append:2 append:1 /3"},
		{"keys that are known later", []operation{start(a), step(a, once), step(a, random), step(a, random)}, "put:0 append:1 append:2 /4"},
		{"an end that reads what is before it", []operation{step(a, random), step(b, random), end(a), step(b, random)}, "append:1 append:1 /2"},
		{"an end alone", []operation{end(a), step(b, random)}, "end append:1 /2"},
		{"tags between", []operation{start(a), tag(a), step(a, random)}, "put:0 tags append:1 /3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ops := make([]outbox.Op, len(tt.ops))
			for i, o := range tt.ops {
				op, err := queued(o, now)
				ok(t, err)
				ops[i] = *op
				ops[i].N = int64(i + 1)
			}
			made, err := newBatch(ops, nil)
			ok(t, err)
			got := ""
			for _, g := range made.groups {
				switch o := g.op.(type) {
				case *putEpisode:
					got += fmt.Sprint("put:", len(o.Episode.Steps))
					if !o.Episode.Running() {
						got += ":ended"
					}
				case *appendSteps:
					got += fmt.Sprint("append:", len(o.Steps))
					if slices.ContainsFunc(o.Steps, func(s Step) bool { return s.Number != 0 || !s.Time.Equal(now) }) {
						t.Errorf("steps %+v", o.Steps)
					}
				case *completeEpisode:
					got += "end"
				case *changeTags:
					got += "tags"
				}
				if _, _, rev := kindOf(g.op); tt.name == "a whole life" && rev != ops[0].Rev^ops[1].Rev^ops[2].Rev^ops[3].Rev {
					t.Errorf("the revision %d is not made of those of the operations", rev)
				}
				got += " "
			}
			if got += fmt.Sprint("/", len(made.ops)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// FuzzQueuedOperation reads what is no operation.
func FuzzQueuedOperation(f *testing.F) {
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	for _, o := range []operation{
		&putEpisode{Episode: &Episode{ID: ID{1}, Description: "d", Steps: []Step{{Tool: "t", Latency: 1234567}}}, Rev: 1},
		&appendSteps{ID: ID{1}, Key: []byte("key"), Steps: []Step{{Tool: "t", Parameters: "no json", Latency: 1}}, Now: now},
		&completeEpisode{ID: ID{1}, Completion: Completion{Outcome: Outcome{Kind: Failure, Reason: "r"}}, Rev: 2, Now: now},
		&putPattern{Pattern: &Pattern{ID: ID{2}, Description: "p"}, Rev: 3}, &putEmbedding{&Embedding{Kind: ItemEpisode, Vector: []float32{0.1}}},
		&putRelation{&Relation{From: ID{1}, To: ID{2}, Type: Follows}}, &deleteItem{Kind: ItemPattern, ID: ID{3}},
	} {
		op, err := queued(o, now)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(op.Kind, op.Body)
	}
	f.Add(int64(1), []byte(`{}`))
	f.Add(int64(99), []byte(`null`))
	f.Fuzz(func(t *testing.T, kind int64, body []byte) {
		o, err := operationFrom(&outbox.Op{Kind: kind, Body: body})
		if err != nil {
			wants(t, err, ErrCorrupt, "")
			return
		}
		holds(o)
		if k, _, _ := kindOf(o); k != kind {
			t.Errorf("kind %d was read as %d", kind, k)
		}
		forServer(o)
		if _, err := json.Marshal(o); err != nil {
			t.Error(err)
		}
	})
}
