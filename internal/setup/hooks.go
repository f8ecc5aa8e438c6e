package setup

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"

	"github.com/episodic-memory/episodic/internal/confedit"
)

// runsHook tells a command line of episodic hook, of any version.
var runsHook = regexp.MustCompile(`(?:^|[\\/"'\s])episodic(?:\.exe|\.test)?["']?\s(?:.*\s)?hook\s`)

// isHook reports whether an element of a list of hooks is one of ours.
func isHook(element any) bool {
	object, _ := element.(map[string]any)
	if list, ok := object["hooks"].([]any); ok {
		return len(list) > 0 && !slices.ContainsFunc(list, func(e any) bool { return !isHook(e) })
	}
	line := ""
	for _, key := range []string{"command", "bash", "powershell"} {
		if s, ok := object[key].(string); ok {
			line += s + " "
		}
	}
	if args, ok := object["args"].([]any); ok {
		for _, arg := range args {
			line += fmt.Sprint(arg) + " "
		}
	}
	return runsHook.MatchString(line)
}

// event is what is run at an event of a client.
type event struct {
	name    string
	element any
}

// hooks are ours in the member "hooks" of a JSON file, which has a list for each event.
type hooks struct {
	version bool // the file says that it is of version 1
	events  []event
}

// lists are the lists of a text by the names of their events.
func (p hooks) lists(text string) (map[string]any, error) {
	v, _, err := confedit.FindJSON(text, "hooks")
	lists, _ := v.(map[string]any)
	return lists, err
}

// ours returns what tells an element of an event's list that is ours: of any version, or as it is
// to be, whatever the program is called.
func (p hooks) ours(event string) func(element any) bool {
	return func(element any) bool {
		if isHook(element) {
			return true
		}
		for _, e := range p.events {
			if e.name == event && reflect.DeepEqual(element, plain(e.element)) {
				return true
			}
		}
		return false
	}
}

func (p hooks) ready(lists map[string]any) bool {
	want := map[string]any{}
	for _, e := range p.events {
		want[e.name] = plain(e.element)
	}
	got := map[string]any{}
	for name, v := range lists {
		list, _ := v.([]any)
		ours := p.ours(name)
		for _, element := range list {
			if ours(element) {
				if got[name] != nil {
					return false // twice
				}
				got[name] = element
			}
		}
	}
	return reflect.DeepEqual(got, want)
}

func (p hooks) put(text string) (splices []confedit.Splice, err error) {
	lists, err := p.lists(text)
	if err != nil || p.ready(lists) {
		return nil, err
	}
	if splices, err = p.cut(text); err != nil {
		return nil, err
	}
	edited := confedit.Apply(text, splices)
	do := func(more []confedit.Splice, err error) error {
		if err == nil {
			splices, edited = append(splices, more...), confedit.Apply(edited, more)
		}
		return err
	}
	if _, there, err := confedit.FindJSON(edited, "version"); err != nil {
		return nil, err
	} else if p.version && !there {
		if err := do(confedit.SetJSON(edited, 1, "version")); err != nil {
			return nil, err
		}
	}
	for _, e := range p.events {
		if err := do(confedit.AppendJSON(edited, e.element, "hooks", e.name)); err != nil {
			return nil, err
		}
	}
	return splices, nil
}

func (p hooks) cut(text string) (splices []confedit.Splice, err error) {
	lists, err := p.lists(text)
	if err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(lists) {
		more, err := confedit.RemoveElementsJSON(text, p.ours(name), "hooks", name)
		if err != nil {
			return nil, err
		}
		splices, text = append(splices, more...), confedit.Apply(text, more)
	}
	return splices, nil
}

func (p hooks) snippet() string {
	splices, _ := p.put("") // nothing is in the way there
	return confedit.Apply("", splices)
}
