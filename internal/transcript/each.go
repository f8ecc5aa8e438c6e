package transcript

import (
	"cmp"
	"crypto/sha256"
	"io"
	"runtime"
	"sync"

	"github.com/valyala/fastjson"
)

// job is a value that is to be read.
type job struct {
	value    value
	done     chan struct{}
	runs     []*Run
	problems []error
}

// each reads the values of a file whose values are runs by themselves. They are parsed side
// by side, and given in the order of the file.
func (r *records) each(stopped *bool) error {
	workers := runtime.GOMAXPROCS(0)
	jobs, order := make(chan *job), make(chan *job, 2*workers)
	quit := make(chan struct{})
	var running sync.WaitGroup
	defer running.Wait()
	defer close(quit)
	for range workers {
		running.Go(func() {
			m := &memory{}
			for j := range jobs {
				j.runs, j.problems = r.one(j.value, m)
				close(j.done)
			}
		})
	}
	running.Go(func() {
		defer close(order)
		defer close(jobs)
		for {
			v, err := r.next()
			if err != nil {
				if err != io.EOF {
					r.last = err
				}
				return
			}
			j := &job{value: v, done: make(chan struct{})}
			for _, to := range []chan *job{order, jobs} {
				select {
				case to <- j:
				case <-quit:
					return
				}
			}
		}
	})
	for j := range order {
		<-j.done
		for _, err := range j.problems {
			r.problem(err)
		}
		for _, run := range j.runs {
			r.emit(run)
		}
		if *stopped {
			break
		}
	}
	return nil
}

// memory is used for one value after another.
type memory struct {
	parser    fastjson.Parser
	canonical []byte
}

// mostKept bounds the size of a value whose memory is used again, in bytes.
const mostKept = 1 << 20

// one reads the runs of a value, and tells what is wrong with it. Nothing of them may be in m.
func (r *records) one(v value, m *memory) (runs []*Run, problems []error) {
	if len(v.text) > mostKept {
		m = &memory{}
	}
	n, err := v.parsedWith(&m.parser)
	if err != nil {
		return nil, []error{err}
	}
	tell := func(p *Problem) {
		p.Line = cmp.Or(p.Line, v.line)
		problems = append(problems, p)
	}
	m.canonical = appendJSON(m.canonical[:0], n.v, true)
	b := begin(r.format.name, v.line, r.opts, func(run *Run) { runs = append(runs, run) }, tell)
	b.text, b.run.Bytes, b.run.Hash = v.text, int64(len(v.text)), sha256.Sum256(m.canonical)
	b.wrong(r.format.each(n, b))
	return runs, problems
}
