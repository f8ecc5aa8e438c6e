package episodic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/episodic-memory/episodic/internal/hrana/hranatest"
)

// Made-up secrets, put together here so that no scanner takes them for real ones.
const mixedCharacters = "aZ3kQ9xLm2Vt7RbY1wN8cPd5HgJ4fS6uT0eK"

// secretOf is a secret of some kind; each n has another one of it.
func secretOf(kind, n int) (secret, text string) {
	rot := n % len(mixedCharacters)
	x := mixedCharacters[rot:] + mixedCharacters[:rot]
	hex := strings.Repeat("0f3a9c7e5b1d2846", 4)
	hex = hex[n%16 : n%16+40]
	bare := func(s string) (string, string) { return s, "use " + s + " for it" }
	switch kind {
	case 0:
		return bare("AKIA" + strings.ToUpper(strings.Map(letter, x))[:16])
	case 1:
		return bare("gh" + "p_" + x)
	case 2:
		return bare("glpat-" + x[:20])
	case 3:
		return bare("xoxb-" + "123456789012-" + x)
	case 4:
		return bare("sk_" + "live_" + x)
	case 5:
		return bare("sk-" + "proj-" + x + x)
	case 6:
		return bare("AIza" + "Sy" + x[:33])
	case 7:
		return bare("eyJhbGciOiJFZERTQSJ9" + ".eyJp" + x + "." + x)
	case 8:
		return x[:14], "DATABASE_URL=postgres://app:" + x[:14] + "@db.internal:5432/app"
	case 9:
		return x[:20], "export DB_PASSWORD=" + x[:20] + "\nDEBUG=1"
	case 10:
		return x + x, "-----BEGIN RSA " + "PRIVATE KEY-----\n" + x + x + "\n" + hex + "\n-----END RSA " + "PRIVATE KEY-----"
	case 11:
		return hex, `{"api_key": "` + hex + `"}`
	}
	return x, `curl -H "Authorization: Bearer ` + x + `" https://api`
}

func letter(r rune) rune {
	if r >= '0' && r <= '9' {
		return 'Q' + r - '0'
	}
	return r
}

const secretKinds = 13

// plantedEpisode holds secrets of all kinds in all its texts, and tells them.
func plantedEpisode(seed int) (e *Episode, secrets []string) {
	plant := func() string {
		var all []string
		secret, text := secretOf(len(secrets)%secretKinds, seed+len(secrets))
		secrets = append(secrets, secret)
		return strings.Join(append(all, text), "\n")
	}
	e = &Episode{
		Description: "deploy with " + plant(),
		Context:     Context{Domain: "a", Tags: []string{"b"}},
		Outcome:     Outcome{Kind: Failure, Reason: plant(), Details: plant()},
		Reflection:  Reflection{Insights: []string{plant()}},
		Metadata:    map[string]string{"env": plant(), "password": "Tr0ub4dor" + fmt.Sprint(seed)},
	}
	secrets = append(secrets, e.Metadata["password"])
	for range 20 {
		parameters, _ := json.Marshal(map[string]any{"command": plant(), "nested": map[string]any{"list": []string{plant()}}})
		e.Steps = append(e.Steps, Step{Tool: "shell", Action: "run " + plant(), Parameters: JSON(parameters), Result: &Result{Kind: ResultOutput, Text: "line\n" + plant() + "\nline"}, Metadata: map[string]string{"stderr": plant()}})
	}
	return e, secrets
}

// secretsIn returns which of the secrets a folder's files hold in plain.
func secretsIn(t *testing.T, dir string, secrets []string) (found []string) {
	t.Helper()
	ok(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, s := range secrets {
			if bytes.Contains(content, []byte(s)) {
				found = append(found, filepath.Base(path)+": "+s)
			}
		}
		return nil
	}))
	return found
}

func toldIn(t *testing.T, v any, secrets []string) (found []string) {
	t.Helper()
	text, err := json.Marshal(v)
	ok(t, err)
	for _, s := range secrets {
		if bytes.Contains(text, []byte(s)) {
			found = append(found, s)
		}
	}
	return found
}

// Nothing that a Store keeps holds a secret that it was given: neither the file and its log,
// nor the index, nor a dictionary that was trained on it.
func TestSecretsAreNotStored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "m.db"), &Options{Compression: Compression{Codec: Uncompressed}})
	var all []string
	var ids []ID
	for i := range 70 {
		e, secrets := plantedEpisode(i)
		all = append(all, secrets...)
		switch i % 3 {
		case 0:
			ok(t, s.PutEpisode(t.Context(), e))
		case 1:
			n, err := s.AddEpisodes(t.Context(), e)
			if ok(t, err); n != 1 {
				t.Errorf("%d added", n)
			}
		case 2:
			steps, done := e.Steps, Completion{Outcome: e.Outcome, Reflection: e.Reflection, Metadata: e.Metadata}
			e.Steps, e.Outcome, e.Reflection, e.Metadata = nil, Outcome{}, Reflection{}, nil
			ok(t, s.StartEpisode(t.Context(), e))
			_, err := s.AppendSteps(t.Context(), e.ID, steps...)
			ok(t, err)
			ok(t, s.CompleteEpisode(t.Context(), e.ID, done))
		}
		ids = append(ids, e.ID)
	}
	_, err := s.TrainDictionaries(t.Context())
	ok(t, err)
	ok(t, s.Reindex(t.Context()))
	slices.Sort(all)
	all = slices.Compact(all)
	if found := secretsIn(t, dir, all); found != nil {
		t.Errorf("%d secrets of %d are in the files: %q", len(found), len(all), found[:min(5, len(found))])
	}
	for _, id := range ids {
		e, err := s.Episode(t.Context(), id)
		ok(t, err)
		if found := toldIn(t, e, all); found != nil {
			t.Errorf("read %q", found)
		}
	}
	results, err := s.Search(t.Context(), "deploy with the password", nil)
	if ok(t, err); len(results.Hits) == 0 || toldIn(t, results, all) != nil {
		t.Errorf("found %d, %q", len(results.Hits), toldIn(t, results, all))
	}
	if found := s.Stats().Redacted; len(found) < 12 || found["github-token"] < 60 {
		t.Errorf("counted %v", found)
	}
}

// setTexts sets every text in v to text, but those of which there are few.
func setTexts(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		setTexts(v.Elem(), text)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() || v.Type() == reflect.TypeFor[Scope]() {
			return
		}
		for i := range v.NumField() {
			setTexts(v.Field(i), text)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		setTexts(v.Index(0), text)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		setTexts(value, text)
		v.SetMapIndex(reflect.ValueOf(text), value)
	case reflect.String:
		switch v.Interface().(type) {
		case string, TaskType:
			v.SetString(text)
		case JSON:
			v.SetString(`{"` + text + `": ["` + text + `"]}`)
		}
	}
}

// Every text of every noun is redacted, also those that are added to a noun later.
func TestEveryTextIsRedacted(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "m.db"), nil)
	secret := "gh" + "p_" + mixedCharacters
	a, b := NewID(), NewID()
	ok(t, s.PutEpisode(t.Context(), &Episode{ID: a, Description: "a"}))
	ok(t, s.PutEpisode(t.Context(), &Episode{ID: b, Description: "b"}))
	ok(t, s.StartEpisode(t.Context(), &Episode{ID: ID{9}, Description: "c"}))
	check := func(name string, v any) {
		t.Helper()
		if toldIn(t, v, []string{secret}) != nil || toldIn(t, v, []string{"[redacted:github-token]"}) == nil {
			t.Errorf("%s is %+v", name, v)
		}
	}

	var e Episode
	setTexts(reflect.ValueOf(&e).Elem(), secret)
	e.ID, e.StepCount, e.Outcome.Kind, e.Context.Complexity = ID{1}, 0, Failure, ""
	e.Outcome.Verdict, e.Outcome.Artifacts, e.Outcome.Completed, e.Outcome.Failed, e.Outcome.Signals = "", nil, nil, nil, nil
	e.Steps[0].Result.Kind, e.AppliedPatterns[0].Effect, e.AppliedPatterns[0].PatternID = ResultOutput, Helped, a
	steps := e.Steps
	ok(t, s.PutEpisode(t.Context(), &e))
	check("what was put", e)
	got, err := s.Episode(t.Context(), e.ID)
	ok(t, err)
	check("an episode", got)
	if toldIn(t, steps, []string{secret}) == nil {
		t.Error("the caller's steps were changed")
	}
	if got.Steps[0].Parameters != `{"[redacted:github-token]": ["[redacted:github-token]"]}` {
		t.Errorf("parameters are %s", got.Steps[0].Parameters)
	}

	var all Outcome
	setTexts(reflect.ValueOf(&all).Elem(), secret)
	for _, o := range []Outcome{
		{Kind: Success, Verdict: all.Verdict, Artifacts: all.Artifacts}, {Kind: PartialSuccess, Completed: all.Completed, Failed: all.Failed},
		{Kind: Abstained, Reason: all.Reason, Signals: all.Signals},
	} {
		e := &Episode{Description: "x", Outcome: o}
		ok(t, s.PutEpisode(t.Context(), e))
		got, err := s.Episode(t.Context(), e.ID)
		ok(t, err)
		check("an outcome", got)
	}

	steps[0].Number = 0
	_, err = s.AppendSteps(t.Context(), ID{9}, steps...)
	ok(t, err)
	ok(t, s.AddTags(t.Context(), ID{9}, secret))
	done := Completion{Outcome: Outcome{Kind: Failure, Reason: secret}, Metadata: map[string]string{secret: secret}, Reflection: Reflection{Insights: []string{secret}}}
	ok(t, s.CompleteEpisode(t.Context(), ID{9}, done))
	ok(t, s.CompleteEpisode(t.Context(), ID{9}, done)) // which is what is stored
	got, err = s.Episode(t.Context(), ID{9})
	ok(t, err)
	check("a completed episode", got)
	ok(t, s.RemoveTags(t.Context(), ID{9}, secret))
	if got, err = s.Episode(t.Context(), ID{9}); err != nil || len(got.Context.Tags) != 0 {
		t.Errorf("tags are %q, %v", got.Context.Tags, err)
	}

	var p Pattern
	setTexts(reflect.ValueOf(&p).Elem(), secret)
	p.Evidence, p.Context.Complexity = nil, ""
	for i, set := range []func(q *Pattern){
		func(q *Pattern) { q.ToolSequence = p.ToolSequence }, func(q *Pattern) { q.DecisionPoint = p.DecisionPoint },
		func(q *Pattern) { q.ErrorRecovery = p.ErrorRecovery }, func(q *Pattern) { q.ContextPattern = p.ContextPattern },
	} {
		q := &Pattern{ID: ID{byte(i), 2}, Description: p.Description, Context: p.Context, Metadata: p.Metadata}
		set(q)
		ok(t, s.PutPattern(t.Context(), q))
		got, err := s.Pattern(t.Context(), q.ID)
		ok(t, err)
		check("a pattern", got)
	}
	h := Heuristic{ID: ID{3}}
	setTexts(reflect.ValueOf(&h).Elem(), secret)
	h.Evidence.Episodes = nil
	ok(t, s.PutHeuristic(t.Context(), &h))
	gotH, err := s.Heuristic(t.Context(), h.ID)
	ok(t, err)
	check("a heuristic", gotH)
	r := Relation{}
	setTexts(reflect.ValueOf(&r).Elem(), secret)
	r.From, r.Type, r.To = a, Follows, b
	ok(t, s.PutRelation(t.Context(), &r))
	relations, err := collect(s.Relations(t.Context(), a, nil))
	ok(t, err)
	check("a relation", relations)

	// What an item is known by is not changed.
	wants(t, s.PutEpisode(t.Context(), &Episode{Description: "x", Scope: Scope{Project: secret}}), ErrInvalid, "scope.project: holds what looks like a secret (github-token)")
	wants(t, s.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: a, Model: secret, Vector: []float32{1}}), ErrInvalid, "model: holds what looks like a secret")
}

func TestNamesThatBecomeTheSameAreKeptApart(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "m.db"), nil)
	one, two := "gh"+"p_"+mixedCharacters, "gh"+"o_"+mixedCharacters
	m := map[string]string{one: "1", two: "2", "three": "3"}
	e := &Episode{Description: "x", Metadata: m, Reward: &Reward{Components: map[string]float64{one: 1, two: 2}}}
	ok(t, s.PutEpisode(t.Context(), e))
	if want := map[string]string{"[redacted:github-token]": "2", "[redacted:github-token]#2": "1", "three": "3"}; !reflect.DeepEqual(e.Metadata, want) || m[one] != "1" {
		t.Errorf("%v, and the caller's %v", e.Metadata, m)
	}
	if want := map[string]float64{"[redacted:github-token]": 2, "[redacted:github-token]#2": 1}; !reflect.DeepEqual(e.Reward.Components, want) {
		t.Errorf("%v", e.Reward.Components)
	}
}

func TestRedactOptions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	secret := "gh" + "p_" + mixedCharacters
	for name, row := range map[string]struct {
		o    Redact
		want string
	}{
		"default": {Redact{}, "[redacted:github-token]"}, "disabled": {Redact{Disabled: true}, secret},
		"allowed": {Redact{Allow: []string{secret}}, secret}, "allowed by an expression": {Redact{Allow: []string{"/gh._aZ3.*/"}}, secret},
	} {
		s := open(t, path, &Options{Redact: row.o})
		e := &Episode{Description: secret}
		ok(t, s.PutEpisode(t.Context(), e))
		if e.Description != row.want || s.Redact(secret) != row.want || (len(s.Stats().Redacted) > 0) != (row.want != secret) {
			t.Errorf("%s: %q, %v", name, e.Description, s.Stats().Redacted)
		}
		ok(t, s.Close())
	}
	_, err := Open(t.Context(), path, &Options{Redact: Redact{Allow: []string{"/(/"}}})
	wants(t, err, ErrInvalid, "Redact.Allow")
}

// A record is the same whether it was redacted or not, and grows on.
func TestImportWithAndWithoutRedaction(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.db")
	secret, id := "gh"+"p_"+mixedCharacters, NewID()
	record := func(steps int) Record {
		var actions []string
		for i := range steps {
			actions = append(actions, fmt.Sprint("use ", secret, " ", i))
		}
		r := recordOf(id, actions...)
		r.Hash = []byte{byte(steps)}
		return r
	}
	for i, row := range []struct {
		disabled bool
		steps    int
		want     ImportOutcome
		secrets  int // steps that hold it then
	}{
		{false, 1, ImportAdded, 0}, {false, 1, ImportUnchanged, 0}, {true, 1, ImportUnchanged, 0}, {false, 1, ImportUnchanged, 0},
		{false, 2, ImportUpdated, 0}, {true, 3, ImportUpdated, 1}, {true, 3, ImportUnchanged, 1}, {false, 3, ImportUnchanged, 1}, {false, 4, ImportUpdated, 0},
		{true, 4, ImportUnchanged, 0},
	} {
		s := open(t, path, &Options{Redact: Redact{Disabled: row.disabled}})
		if got := importing(t, s, record(row.steps)); got[0] != row.want {
			t.Errorf("%d: outcome %v, want %v", i, got, row.want)
		}
		e, err := s.Episode(t.Context(), id)
		ok(t, err)
		n := 0
		for _, step := range e.Steps {
			n += strings.Count(step.Action, secret)
		}
		if len(e.Steps) != row.steps || n != row.secrets {
			t.Errorf("%d: %d steps, %d with the secret, want %d and %d", i, len(e.Steps), n, row.steps, row.secrets)
		}
		ok(t, s.Close())
	}
}

func TestQueuedWritesAreRedacted(t *testing.T) {
	t.Parallel()
	_, link := offline(t)
	dir := t.TempDir()
	s := queueing(t, link.URL(), dir)
	synced(t, s)
	link.Refuse(true)
	link.ResetAll()
	e, secrets := plantedEpisode(1)
	steps := e.Steps
	e.Steps, e.Outcome, e.Reflection = nil, Outcome{}, Reflection{}
	ok(t, s.StartEpisode(t.Context(), e))
	_, err := s.AppendSteps(t.Context(), e.ID, steps...)
	ok(t, err)
	if n, err := s.Outbox(t.Context()); err != nil || n.Waiting != 2 {
		t.Errorf("%+v, %v", n, err)
	}
	if found := secretsIn(t, dir, secrets); found != nil {
		t.Errorf("%d secrets are in the files: %q", len(found), found[:min(5, len(found))])
	}
}

func TestRedactStored(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]string{"file": filepath.Join(t.TempDir(), "m.db"), "server": hranatest.Start(t).URL()} {
		t.Run(name, func(t *testing.T) {
			secret := "gh" + "p_" + mixedCharacters
			plain := open(t, target, &Options{Redact: Redact{Disabled: true}, Replica: Replica{Disabled: true}})
			e, secrets := plantedEpisode(3)
			secrets = append(secrets, secret)
			ok(t, plain.PutEpisode(t.Context(), e))
			ok(t, plain.PutEmbedding(t.Context(), &Embedding{Kind: ItemEpisode, Item: e.ID, Model: "m", Vector: []float32{1, 2}}))
			other := &Episode{Description: "nothing secret", Scope: Scope{Project: secret}}
			ok(t, plain.PutEpisode(t.Context(), other))
			running := &Episode{Description: "running"}
			ok(t, plain.StartEpisode(t.Context(), running))
			_, err := plain.AppendSteps(t.Context(), running.ID, Step{Tool: "a", Action: secret})
			ok(t, err)
			p := &Pattern{Description: secret, ToolSequence: &ToolSequence{Tools: []string{"a"}}}
			ok(t, plain.PutPattern(t.Context(), p))
			h := &Heuristic{Condition: secret, Action: "b"}
			ok(t, plain.PutHeuristic(t.Context(), h))
			ok(t, plain.PutRelation(t.Context(), &Relation{From: e.ID, Type: Follows, To: other.ID, Reason: secret}))
			ok(t, plain.PutHeuristic(t.Context(), &Heuristic{Condition: "c", Action: "d"}))

			s := open(t, target, &Options{Replica: Replica{Disabled: true}})
			before, err := s.Episode(t.Context(), e.ID)
			ok(t, err)
			looked, err := collect(s.RedactStored(t.Context(), true))
			ok(t, err)
			if after, err := s.Episode(t.Context(), e.ID); err != nil || after.Revision != before.Revision {
				t.Errorf("looking has changed it: %v", err)
			}
			done, err := collect(s.RedactStored(t.Context(), false))
			ok(t, err)
			if !reflect.DeepEqual(looked, done) || len(done) != 6 {
				t.Errorf("found %+v, and then %+v", looked, done)
			}
			for _, r := range done {
				switch {
				case r.Item == e.ID && r.Kind == "episode" && (r.Embeddings != 1 || len(r.Found) < 12), r.Item == other.ID && (!r.Scope || len(r.Found) > 0),
					r.Item == running.ID && !reflect.DeepEqual(r.Found, map[string]uint64{"github-token": 1}):
					t.Errorf("%+v", r)
				}
			}
			if again, err := collect(s.RedactStored(t.Context(), false)); err != nil || len(again) != 1 || !again[0].Scope {
				t.Errorf("and again %+v, %v", again, err)
			}
			for _, id := range []ID{e.ID, running.ID} {
				got, err := s.Episode(t.Context(), id)
				ok(t, err)
				if found := toldIn(t, got, secrets); found != nil {
					t.Errorf("read %q", found)
				}
			}
			if page, err := s.ListEmbeddings(t.Context(), ItemEpisode, e.ID, nil); err != nil || len(page.Items) != 0 {
				t.Errorf("%d embeddings are left, %v", len(page.Items), err)
			}
			if n, err := s.AppendSteps(t.Context(), running.ID, Step{Tool: "b"}); err != nil || n != 2 {
				t.Errorf("step %d, %v", n, err)
			}
			if hits, err := s.searchHits(t.Context(), mixedCharacters, nil); err != nil || len(hits) != 0 {
				t.Errorf("found %d by the secret, %v", len(hits), err)
			}
		})
	}
}

// An Embedder is given neither what is stored nor a query with secrets in it.
func TestEmbedderSeesNoSecrets(t *testing.T) {
	t.Parallel()
	secret := "gh" + "p_" + mixedCharacters
	m := newBag("m")
	var mu sync.Mutex // the background embeds too
	var given []string
	m.first(func(_ context.Context, texts []string) error {
		mu.Lock()
		defer mu.Unlock()
		given = append(given, texts...)
		return nil
	})
	s := withModel(t, filepath.Join(t.TempDir(), "m.db"), m)
	ok(t, s.PutEpisode(t.Context(), &Episode{Description: "use " + secret, Steps: []Step{{Tool: "a", Action: secret}}}))
	ok(t, s.EmbedDocuments(t.Context(), nil))
	_, err := s.Search(t.Context(), "use "+secret, nil)
	ok(t, err)
	mu.Lock()
	defer mu.Unlock()
	if len(given) < 3 || strings.Contains(strings.Join(given, " "), secret) {
		t.Errorf("%q", given)
	}
}

func TestRedactStoredWithinScope(t *testing.T) {
	root := open(t, filepath.Join(t.TempDir(), "m.db"), &Options{Redact: Redact{Disabled: true}})
	ids := map[string]ID{}
	for _, project := range []string{"a", "b"} {
		e := &Episode{Description: "the key is AK" + "IA" + "Q3EGDFT6VJ2YXLKM", Scope: Scope{Project: project}}
		ok(t, root.PutEpisode(t.Context(), e))
		ids[project] = e.ID
	}
	s, err := root.Scoped(Scope{Project: "a"})
	ok(t, err)
	all, err := collect(s.RedactStored(t.Context(), false))
	if ok(t, err); len(all) != 1 || all[0].Item != ids["a"] {
		t.Errorf("redacted %+v", all)
	}
	e, err := root.Episode(t.Context(), ids["b"])
	if ok(t, err); strings.Contains(e.Description, "redacted") {
		t.Errorf("of another scope: %s", e.Description)
	}
}

// Redactor does what a Store does.
func TestRedactor(t *testing.T) {
	t.Parallel()
	const secret = "ghp_" + "012345678901234567890123456789abcdef"
	for _, tt := range []struct {
		redact Redact
		want   string
	}{
		{Redact{}, "token [redacted:github-token]"}, {Redact{Disabled: true}, "token " + secret}, {Redact{Allow: []string{secret}}, "token " + secret},
	} {
		redact, err := tt.redact.Redactor()
		if err != nil {
			t.Fatal(err)
		}
		if got := redact("token " + secret); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.redact, got, tt.want)
		}
	}
	if _, err := (Redact{Allow: []string{"/(/"}}).Redactor(); !errors.Is(err, ErrInvalid) {
		t.Errorf("error %v", err)
	}
}
