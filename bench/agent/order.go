package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/episodic-memory/episodic"
)

// Order says to store the episodes of Task.Episodes from From, counted from 0, to before To,
// each as a new one: by PutEpisode, or by starting it and appending step by step, of which the
// appends are timed.
type Order struct {
	From, To int
	Append   bool
}

// obey carries out the orders on the input until its end.
func (w *work) obey(ctx context.Context, lines *bufio.Scanner) error {
	episodes, err := readEpisodes(w.Episodes)
	if err != nil {
		return err
	}
	for lines.Scan() {
		var o Order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		if o.From < 0 || o.From > o.To || o.To > len(episodes) {
			return fmt.Errorf("order of the episodes %d to %d of %d", o.From, o.To, len(episodes))
		}
		before := cpuTime()
		for i := o.From; i < o.To; i++ {
			if err := w.add(ctx, &episodes[i], o.Append); err != nil {
				return err
			}
		}
		if err := w.tell(Event{Kind: Obeyed, CPU: cpuTime() - before}); err != nil {
			return err
		}
	}
	return lines.Err()
}

func readEpisodes(path string) (list []episodic.Episode, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for decoder := json.NewDecoder(f); ; {
		var e episodic.Episode
		switch err := decoder.Decode(&e); {
		case err == io.EOF:
			return list, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, e)
	}
}

// add stores a copy of an episode.
func (w *work) add(ctx context.Context, of *episodic.Episode, byStep bool) error {
	if !byStep {
		e := *of
		e.ID = episodic.NewID()
		return w.timed(func() error { return w.store.PutEpisode(ctx, &e) })
	}
	e := episodic.Episode{ID: episodic.NewID(), TaskType: of.TaskType, Description: of.Description, Context: of.Context, Start: of.Start}
	if err := w.start(ctx, &e); err != nil {
		return err
	}
	for _, step := range of.Steps {
		err := w.timed(func() error {
			_, err := w.store.AppendSteps(ctx, e.ID, step)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// timed tells how long f took.
func (w *work) timed(f func() error) error {
	begin := time.Now()
	if err := f(); err != nil {
		return err
	}
	return w.tell(Event{Kind: Stored, Took: time.Since(begin)})
}

// cpuTime is the user and system time of this process so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no way to fail
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
