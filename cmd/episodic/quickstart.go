package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/episodic-memory/episodic"
)

//go:embed quickstart.jsonl
var samples string

type quickstartCmd struct{}

// Help is shown by quickstart --help.
func (quickstartCmd) Help() string {
	return `The samples go into a new temporary folder, or into the database named with --db; the environment's database is left alone.`
}

// quickstartQueries find one sample each, by words that a person would use.
var quickstartQueries = []string{
	"concurrent map writes in a cache",
	"flaky test passes locally fails in CI",
	"add a column to a large table without downtime",
}

func (quickstartCmd) Run(ctx context.Context, a *app) error {
	if a.db == nil {
		dir, err := os.MkdirTemp("", "episodic-quickstart-")
		if err != nil {
			return fmt.Errorf("make a folder for the samples: %w; choose a database with --db", err)
		}
		path := filepath.Join(dir, "episodic.db")
		a.db = &path
	}
	return a.withStore(ctx, func(store *episodic.Store) error { return a.tour(ctx, store) })
}

func (a *app) tour(ctx context.Context, store *episodic.Store) error {
	self := a.self + " --db " + shellQuote(shownTarget(*a.db))
	if a.allowPlaintext {
		self += " --allow-plaintext"
	}
	a.printf("Storing sample episodes in %s\n", plain(shownTarget(*a.db)))
	im := newImporter(a, store)
	if err := im.run(ctx, []source{{name: "samples", size: -1, text: samples}}); err != nil {
		return err
	}
	for _, query := range quickstartQueries {
		a.printf("\n$ %s search -n 2 %s\n", plain(self), query)
		search := searchCmd{Query: []string{query}, N: 2, quiet: true}
		if err := search.search(ctx, a, store); err != nil {
			return err
		}
	}
	found, err := store.Search(ctx, quickstartQueries[0], nil)
	if err != nil {
		return err
	}
	a.printf("\nNow try:\n")
	if len(found.Hits) > 0 {
		a.printf("  %s show %v\n", plain(self), found.Hits[0].Episode.ID)
	}
	for _, command := range []string{"list", "list --outcome failure", "search --language go tests", "stats"} {
		a.printf("  %s %s\n", plain(self), command)
	}
	if shownTarget(*a.db) != *a.db {
		a.printf("after setting EPISODIC_AUTH_TOKEN to the token that the address holds.\n")
	}
	a.printf("\nWithout --db, the commands use your own memory. Fill it with:\n  %s import --help\n", a.self)
	return nil
}
