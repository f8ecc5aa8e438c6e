package episodic

import (
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// place is memory that a value can be changed through.
type place struct {
	path     string
	from, to uintptr // from <= address < to
}

// places lists the places of v, spare capacity of slices included. It panics
// where it does not know whether something can be changed.
func places(path string, v reflect.Value) (all []place) {
	at := func(size uintptr) {
		if size > 0 {
			all = append(all, place{path, v.Pointer(), v.Pointer() + size})
		}
	}
	if v.Type() == reflect.TypeFor[time.Time]() {
		return nil // its location cannot be changed
	}
	switch v.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint8, reflect.Float64, reflect.String:
	case reflect.Pointer:
		if !v.IsNil() {
			at(v.Type().Elem().Size())
			all = append(all, places(path, v.Elem())...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			all = append(all, places(path+"."+v.Type().Field(i).Name, v.Field(i))...)
		}
	case reflect.Slice:
		at(uintptr(v.Cap()) * v.Type().Elem().Size())
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			all = append(all, places(fmt.Sprintf("%s[%d]", path, i), v.Index(i))...)
		}
	case reflect.Map:
		if !v.IsNil() {
			at(1)
		}
		for k, e := range v.Seq2() {
			all = append(all, places(fmt.Sprintf("%s[%v]", path, k), e)...)
		}
	default:
		panic(fmt.Sprintf("%s: may a clone share a %v?", path, v.Type()))
	}
	return all
}

// shared returns the paths of the places that a and b have in common.
func shared(a, b any) (paths []string) {
	theirs := places("", reflect.ValueOf(b))
	for _, p := range places("", reflect.ValueOf(a)) {
		for _, q := range theirs {
			if p.from < q.to && q.from < p.to {
				paths = append(paths, p.path)
				break
			}
		}
	}
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
	return paths
}

// fill sets everything in v, each thing to another value; lists get n items. It
// panics where it does not know how.
func fill(v reflect.Value, n int) {
	next := int64(0)
	var set func(v reflect.Value)
	set = func(v reflect.Value) {
		next++
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(next, 0)))
			return
		}
		switch v.Kind() {
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int, reflect.Int64:
			v.SetInt(next)
		case reflect.Uint8:
			v.SetUint(uint64(next % 255))
		case reflect.Float64:
			v.SetFloat(float64(next))
		case reflect.String:
			v.SetString(fmt.Sprint(next))
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			set(v.Elem())
		case reflect.Struct:
			for i := range v.NumField() {
				set(v.Field(i))
			}
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), n, n+1)) // with room that a clone must not share
			fallthrough
		case reflect.Array:
			for i := range v.Len() {
				set(v.Index(i))
			}
		case reflect.Map:
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				set(key)
				set(elem)
				v.SetMapIndex(key, elem)
			}
		default:
			panic(fmt.Sprintf("cannot fill a %v", v.Type()))
		}
	}
	set(v)
}

// filled is a T with everything set and n items in each of its lists.
func filled[T any](n int) *T {
	v := new(T)
	fill(reflect.ValueOf(v).Elem(), n)
	return v
}

func cloneEpisodes(p *Page[*Episode]) *Page[*Episode] { return p.clone((*Episode).clone) }

func checkClone[T any](t rapid.TB, original T, clone func(T) T) {
	t.Helper()
	c := clone(original)
	if !reflect.DeepEqual(c, original) {
		t.Errorf("the clone is\n%#v\nthe original\n%#v", c, original)
	}
	if s := shared(original, c); s != nil {
		t.Errorf("the clone of a %T shares %q", original, s)
	}
}

func TestClonesAreEqualAndShareNothing(t *testing.T) {
	for n := range 3 { // with n = 0 lists are empty, not nil
		checkClone(t, filled[Episode](n), (*Episode).clone)
		checkClone(t, filled[Pattern](n), (*Pattern).clone)
		checkClone(t, filled[Heuristic](n), (*Heuristic).clone)
		checkClone(t, *filled[Hit](n), Hit.clone)
		checkClone(t, filled[SearchResults](n), (*SearchResults).clone)
		checkClone(t, filled[Page[*Episode]](n), cloneEpisodes)
	}
	checkClone(t, &Episode{}, (*Episode).clone)
	checkClone(t, &Pattern{}, (*Pattern).clone)
	checkClone(t, &Heuristic{}, (*Heuristic).clone)
	checkClone(t, &SearchResults{}, (*SearchResults).clone)
	checkClone(t, &Page[*Episode]{}, cloneEpisodes)
	rapid.Check(t, func(t *rapid.T) {
		checkClone(t, anyEpisode.Draw(t, "episode"), (*Episode).clone)
		checkClone(t, anyPattern.Draw(t, "pattern"), (*Pattern).clone)
		checkClone(t, anyHeuristic.Draw(t, "heuristic"), (*Heuristic).clone)
	})
}

// What a clone must not share is told by shared, which therefore has to see it.
func TestWhatClonesShareIsSeen(t *testing.T) {
	e := filled[Episode](2)
	shallow := *e
	all := places("", reflect.ValueOf(e))
	if s := shared(e, &shallow); len(s) != len(all)-1 { // all but the episode itself
		t.Errorf("a shallow copy shares %q", s)
	}
	for name, share := range map[string]func(c *Episode){
		".Reward":              func(c *Episode) { c.Reward = e.Reward },
		".Reward.Components":   func(c *Episode) { c.Reward.Components = e.Reward.Components },
		".Steps[1].Result":     func(c *Episode) { c.Steps[1].Result = e.Steps[1].Result },
		".Steps[0].Metadata":   func(c *Episode) { c.Steps[0].Metadata = e.Steps[0].Metadata },
		".Context.Tags":        func(c *Episode) { c.Context.Tags = e.Context.Tags[1:] },
		".Outcome.Signals":     func(c *Episode) { c.Outcome.Signals = e.Outcome.Signals[2:] }, // its spare room
		".Reflection.Insights": func(c *Episode) { c.Reflection.Insights = e.Reflection.Insights },
	} {
		c := e.clone()
		share(c)
		if s := shared(e, c); len(s) == 0 || s[0] != name {
			t.Errorf("shared %q, want %s first", s, name)
		}
	}
}

func TestClonesOfOneEpisodeAreMadeAndChangedAtOnce(t *testing.T) {
	e := filled[Episode](2)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				c := e.clone()
				c.Metadata["mine"] = "x"
				c.Reward.Components["mine"] = 1
				for i := range c.Steps {
					c.Steps[i].Result.Text = "mine"
					c.Steps[i].Metadata["mine"] = "x"
				}
				c.Steps = append(c.Steps, Step{})
				c.Context.Tags = append(c.Context.Tags[:1], "mine")
			}
		})
	}
	wg.Wait()
	if want := filled[Episode](2); !reflect.DeepEqual(e, want) {
		t.Errorf("the original became\n%#v", e)
	}
}

// tenSteps is an episode as an agent leaves it.
func tenSteps() *Episode {
	e := task(1)
	e.Steps = append(e.Steps, task(2).Steps...)
	e.Context.Tags = []string{"airline", "changes"}
	e.Outcome.Artifacts = []string{"booking"}
	e.Reflection.Insights = []string{"ask for the cabin first"}
	e.Reward = &Reward{Total: 1, Components: map[string]float64{"speed": 0.5, "answer": 0.5}}
	return e
}

func TestCloneAllocatesNothingElse(t *testing.T) {
	e := tenSteps()
	listed := *e
	listed.Steps = nil
	page := &Page[*Episode]{Items: []*Episode{&listed, &listed, &listed}}
	// The episode, three lists, the reward, and two maps of a header and a table each.
	const head = 1 + 3 + 1 + 2*2
	for _, tt := range []struct {
		what  string
		clone func() any
		most  float64
	}{
		{"a listed episode", func() any { return listed.clone() }, head},
		{"an episode", func() any { return e.clone() }, head + 2}, // the steps, their results
		{"a page", func() any { return cloneEpisodes(page) }, 2 + 3*head},
	} {
		if n := testing.AllocsPerRun(100, func() { tt.clone() }); n > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.what, n, tt.most)
		}
	}
}

func BenchmarkCloneEpisode(b *testing.B) {
	e := tenSteps()
	b.ReportAllocs()
	for b.Loop() {
		e.clone()
	}
}
