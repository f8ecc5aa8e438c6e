package episodic

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/episodic-memory/episodic/internal/engine"
	"github.com/episodic-memory/episodic/internal/index"
)

// candidateLesson is a pattern or heuristic that holds words of what was asked.
type candidateLesson struct {
	Lesson
	condition, text string  // text is all that is indexed
	weight          float64 // of a heuristic that was tried: its confidence; otherwise 1
}

// lessonsFrom reads patterns and heuristics by statements as sqlNumbered and sqlMatching are.
func (s *Store) lessonsFrom(ctx context.Context, filter *EpisodeFilter, damage *damages, patterns, heuristics engine.Stmt) (found []candidateLesson, err error) {
	w, err := (&PatternFilter{Domain: filter.Domain, Scope: filter.Scope}).where()
	if err != nil {
		return nil, err
	}
	patterns.SQL, patterns.Args = fmt.Sprintf(patterns.SQL, w.sql), append(patterns.Args, w.args...)
	if w, err = (&HeuristicFilter{Scope: filter.Scope}).where(); err != nil {
		return nil, err
	}
	heuristics.SQL, heuristics.Args = fmt.Sprintf(heuristics.SQL, w.sql), append(heuristics.Args, w.args...)
	rows, err := s.lessonRows(ctx, patterns, heuristics)
	if err != nil {
		return nil, err
	}
	for _, row := range rows[0] {
		p, _, err := s.patternFrom(ctx, row)
		if err := damage.pass(err); err != nil {
			return nil, err
		}
		if p == nil {
			continue
		}
		c := candidateLesson{Lesson: Lesson{Kind: LessonPattern, ID: p.ID, Time: p.Created}, text: strings.Join(patternTexts(p), "\n"), weight: 1}
		c.condition, c.Text = patternLesson(p)
		found = append(found, c)
	}
	for _, row := range rows[1] {
		h, _, err := s.heuristicFrom(ctx, row)
		if err := damage.pass(err); err != nil {
			return nil, err
		}
		if h == nil {
			continue
		}
		c := candidateLesson{
			Lesson:    Lesson{Kind: LessonHeuristic, ID: h.ID, Time: h.Created, Text: oneLine(h.Condition + ": " + h.Action)},
			condition: h.Condition, text: strings.Join(heuristicTexts(h), "\n"), weight: 1,
		}
		if n := h.Evidence.SampleSize; n > 0 {
			c.weight = h.Confidence
			c.Text = fmt.Sprintf("(held in %.0f of %d) %s", h.Evidence.SuccessRate*float64(n), n, c.Text)
		}
		found = append(found, c)
	}
	return found, nil
}

// lessonRows returns the rows of the statements, at most maxCandidates of each: in one round
// trip, unless they are too large for an answer.
func (s *Store) lessonRows(ctx context.Context, patterns, heuristics engine.Stmt) (rows [2][][]any, err error) {
	for at, n := 0, maxCandidates; at < maxCandidates; at += n {
		var r []engine.Result
		r, n, err = halving(min(n, maxCandidates-at), func(n int) ([]engine.Result, error) {
			page := func(st engine.Stmt) engine.Stmt {
				return engine.Stmt{SQL: st.SQL, Args: slices.Concat(st.Args, []any{int64(n), int64(at)})}
			}
			return s.engine.Query(ctx, page(patterns), page(heuristics))
		})
		if err != nil {
			return rows, err
		}
		for i := range rows {
			rows[i] = append(rows[i], r[i].Rows...)
		}
	}
	return rows, nil
}

// patternLesson returns when a pattern applies, and what it says.
func patternLesson(p *Pattern) (condition, text string) {
	condition = p.Description
	switch {
	case p.ToolSequence != nil:
		text = strings.Join(p.ToolSequence.Tools, " → ")
	case p.DecisionPoint != nil:
		condition, text = p.DecisionPoint.Condition, p.DecisionPoint.Condition+": "+p.DecisionPoint.Action
	case p.ErrorRecovery != nil:
		condition, text = p.ErrorRecovery.Error, p.ErrorRecovery.Error+": "+strings.Join(p.ErrorRecovery.Steps, "; ")
	case p.ContextPattern != nil:
		condition = strings.Join(p.ContextPattern.Features, "\n")
		text = strings.Join(p.ContextPattern.Features, ", ") + ": " + p.ContextPattern.Approach
	}
	if p.Description != "" {
		text = p.Description + ": " + text
	}
	return condition, oneLine(text)
}

// fitsLesson reports whether a pattern or heuristic is good enough, and how much it holds of
// what was asked.
func (f *briefing) fitsLesson(c *candidateLesson) (fit float64, ok bool) {
	fit = f.asked.fit(c.text)
	condition := index.Parse(c.condition)
	words := singleTokens(&condition).Terms
	both := 0
	for _, t := range words {
		if f.words[t.Tokens[0]] {
			both++
		}
	}
	return fit, fit >= taskFit || both >= 2 && float64(both) >= lessonFit*float64(len(words))
}

// lessons chooses those of patterns, heuristics and reflections that fit.
func (f *briefing) lessons(candidates []candidateLesson) {
	type scored struct {
		Lesson
		score float64
	}
	var list []scored
	for i := range candidates {
		if fit, ok := f.fitsLesson(&candidates[i]); ok {
			list = append(list, scored{candidates[i].Lesson, fit * candidates[i].weight})
		}
	}
	for _, e := range f.reflect {
		of := func(kind LessonKind, texts []string) {
			for _, text := range texts {
				if text = oneLine(text); text != "" {
					list = append(list, scored{Lesson{Kind: kind, ID: e.ID, Time: e.Start, Text: text}, f.asked.fit(text)})
				}
			}
		}
		of(LessonInsight, e.Reflection.Insights)
		of(LessonImprovement, e.Reflection.Improvements)
		of(LessonSuccess, e.Reflection.Successes)
	}
	slices.SortStableFunc(list, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	seen := make(map[string]bool)
	for _, l := range list {
		if key := index.Fold(l.Text); !seen[key] && len(f.all.Lessons) < briefLessons {
			seen[key] = true
			f.all.Lessons = append(f.all.Lessons, l.Lesson)
		}
	}
}
