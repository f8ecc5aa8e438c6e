package agentstore

import (
	"encoding/json"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// storage yields the sessions in the storage of OpenCode before version 1.2: below session/ a
// file for each, below message/SESSION/ one for each message, below part/MESSAGE/ one for each of
// its parts. The names of files rise with time.
func storage(folder string, since time.Time) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		found, err := filepath.Glob(filepath.Join(folder, "session", "*", "ses_*.json"))
		if err != nil {
			yield(nil, err)
			return
		}
		slices.SortFunc(found, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
		for _, file := range found {
			text, err := os.ReadFile(file)
			if err != nil {
				yield(nil, err)
				return
			}
			var info struct {
				Time struct{ Updated float64 }
			}
			if json.Unmarshal(text, &info) == nil && old(info.Time.Updated, since) {
				continue
			}
			s := &session{}
			if s.Info = s.piece(filepath.Base(file), text); s.Info == nil {
				s.Info = json.RawMessage(quoteID(strings.TrimSuffix(filepath.Base(file), ".json")))
			}
			if err := s.stored(folder, strings.TrimSuffix(filepath.Base(file), ".json")); err != nil {
				yield(nil, err)
				return
			}
			if !yield(json.Marshal(s)) {
				return
			}
		}
	}
}

// quoteID is what is known of a session whose own file is damaged.
func quoteID(id string) string {
	text, _ := json.Marshal(map[string]string{"id": id}) // a string can always be
	return string(text)
}

// old reports whether a time in milliseconds is before since. Where there is none, nothing is.
func old(ms float64, since time.Time) bool {
	return ms > 0 && time.UnixMilli(int64(ms)).Before(since)
}

// stored adds the messages of a session.
func (s *session) stored(folder, id string) error {
	messages, err := texts(filepath.Join(folder, "message", id))
	if err != nil {
		return err
	}
	for _, m := range messages {
		one := message{Info: s.piece(m.name, m.text), Parts: []json.RawMessage{}}
		parts, err := texts(filepath.Join(folder, "part", strings.TrimSuffix(m.name, ".json")))
		if err != nil {
			return err
		}
		for _, p := range parts {
			if text := s.piece(p.name, p.text); text != nil {
				one.Parts = append(one.Parts, text)
			}
		}
		if one.Info != nil {
			s.Messages = append(s.Messages, one)
		}
	}
	return nil
}

type file struct {
	name string
	text []byte
}

// texts are the JSON files of a folder, in the order of their names; none, if there is no such
// folder.
func texts(folder string) (files []file, err error) {
	entries, err := os.ReadDir(folder)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, file{e.Name(), text})
	}
	return files, nil
}
