package episodic

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/episodic-memory/episodic/internal/payload"
	"github.com/episodic-memory/episodic/internal/vector"
)

// The hashes of receipts are of documents that say the same of an item when it is stored and
// when it is read back, by every version of the program: their fields must stay. Scopes are not
// part of them, since an item may be stored over one that keeps its scope.

// episodeContent is an episode without its steps. No part is left out where it is empty.
type episodeContent struct {
	TaskType    TaskType          `json:"task_type"`
	Context     Context           `json:"context"`
	Start       int64             `json:"start_us"`
	End         int64             `json:"end_us"` // 0: it is running
	Description string            `json:"description"`
	Outcome     Outcome           `json:"outcome"`
	Reward      *Reward           `json:"reward,omitempty"`
	Reflection  Reflection        `json:"reflection"`
	Applied     []AppliedPattern  `json:"applied_patterns,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

type patternContent struct {
	storedPattern
	Context Context `json:"context"`
	Created int64   `json:"created_us"`
	Updated int64   `json:"updated_us"`
}

type heuristicContent struct {
	storedHeuristic
	Evidence Evidence `json:"evidence"`
	Created  int64    `json:"created_us"`
	Updated  int64    `json:"updated_us"`
}

type relationContent struct {
	storedRelation
	Created int64 `json:"created_us"`
}

// documentDigest is the SHA-256 of a document.
func documentDigest(v any) ([sha256.Size]byte, error) {
	text, err := payload.AppendJSON(nil, v)
	return sha256.Sum256(text), err
}

func hashOf(v any) (string, error) {
	sum, err := documentDigest(v)
	return hex.EncodeToString(sum[:]), err
}

func microsOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return micros(t)
}

// headDigest is of an episode without its steps.
func headDigest(e *Episode) ([sha256.Size]byte, error) {
	c := episodeContent{
		TaskType: e.TaskType, Context: e.Context, Start: microsOrZero(e.Start), End: microsOrZero(e.End), Description: e.Description,
		Outcome: e.Outcome, Reward: e.Reward, Reflection: e.Reflection, Applied: e.AppliedPatterns, Metadata: e.Metadata,
	}
	c.Context.Tags = unique(e.Context.Tags)
	return documentDigest(&c)
}

// stepDigests are of each step, without its number.
func stepDigests(steps []Step) ([][sha256.Size]byte, error) {
	sums := make([][sha256.Size]byte, len(steps))
	for i, s := range steps {
		s.Number, s.Time = 0, truncateMicros(s.Time)
		var err error
		if sums[i], err = documentDigest((*storedStep)(&s)); err != nil {
			return nil, err
		}
	}
	return sums, nil
}

// joined is the hash of digests, one after the other.
func joined(sums ...[sha256.Size]byte) string {
	h := sha256.New()
	for i := range sums {
		h.Write(sums[i][:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// The contents of items, as Receipt.Hash has them.

func (e *Episode) contentHash() (string, error) {
	head, err := headDigest(e)
	if err != nil {
		return "", err
	}
	steps, err := stepDigests(e.Steps)
	return joined(append([][sha256.Size]byte{head}, steps...)...), err
}

func (e *Episode) headHash() (string, error) {
	head, err := headDigest(e)
	return joined(head), err
}

func stepsHash(steps []Step) (string, error) {
	sums, err := stepDigests(steps)
	return joined(sums...), err
}

func tagsHash(tags []string) (string, error) { return hashOf(slices.Concat([]string{}, tags)) }

func (p *Pattern) contentHash() (string, error) {
	c := patternContent{
		storedPattern: storedPattern{plainPattern(*p), (*storedToolSequence)(p.ToolSequence), (*storedDecisionPoint)(p.DecisionPoint)},
		Context:       p.Context, Created: microsOrZero(p.Created), Updated: microsOrZero(p.Updated),
	}
	c.plainPattern.ID, c.plainPattern.Created, c.plainPattern.Updated, c.plainPattern.Scope = ID{}, time.Time{}, time.Time{}, Scope{}
	c.Context.Tags = unique(p.Context.Tags)
	return hashOf(&c)
}

func (h *Heuristic) contentHash() (string, error) {
	c := heuristicContent{storedHeuristic: storedHeuristic(*h), Evidence: h.Evidence, Created: microsOrZero(h.Created), Updated: microsOrZero(h.Updated)}
	c.storedHeuristic.ID, c.storedHeuristic.Created, c.storedHeuristic.Updated, c.storedHeuristic.Scope = ID{}, time.Time{}, time.Time{}, Scope{}
	return hashOf(&c)
}

func (r *Relation) contentHash() (string, error) {
	return hashOf(&relationContent{storedRelation{r.Reason, r.Priority, r.By, r.Metadata}, microsOrZero(r.Created)})
}

// contentHash is of the vector as a format stores it.
func (e *Embedding) contentHash(f VectorFormat) string {
	return blobHash(vector.Encode(e.Vector, vector.Format(f)))
}

func blobHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// tagsFrom reads a list of tags as sqlTags gives it.
func tagsFrom(v any) (tags []string, err error) {
	text, _ := v.(string)
	err = json.Unmarshal([]byte(text), &tags)
	return tags, err
}
