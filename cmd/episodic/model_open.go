package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/episodic-memory/episodic"
	"github.com/episodic-memory/episodic/internal/wholefile"
)

// noModel stands for going without a model.
const noModel = "none"

// modelDir is the folder of pulled models, and of the file that says where models are.
func (a *app) modelDir() string { return filepath.Join(a.dataHome, "episodic", "models") }

// modelPlace says where a model is that databases name.
type modelPlace struct {
	Name string `json:"name"`
	Dim  int    `json:"dim"`
	Spec string `json:"spec"` // of episodic.OpenEmbedder; it holds no key
}

func (a *app) modelPlaces() ([]modelPlace, error) {
	text, err := os.ReadFile(filepath.Join(a.modelDir(), "places.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var places []modelPlace
	if err == nil {
		err = json.Unmarshal(text, &places)
	}
	if err != nil {
		return nil, fmt.Errorf("where models are: %s: %w", filepath.Join(a.modelDir(), "places.json"), err)
	}
	return places, nil
}

// rememberModel notes where a model is, in place of where one of its name was.
func (a *app) rememberModel(p modelPlace) error {
	places, err := a.modelPlaces()
	if err != nil {
		return err
	}
	places = append(slices.DeleteFunc(places, func(o modelPlace) bool { return o.Name == p.Name }), p)
	text, err := json.MarshalIndent(places, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.modelDir(), 0o700); err != nil {
		return err
	}
	return wholefile.Replace(filepath.Join(a.modelDir(), "places.json"), text, 0o600)
}

// resolveModel is the spec that is meant: the name of a pulled model stands for its folder,
// and a folder is the same whatever folder a later command is run in.
func (a *app) resolveModel(spec string) (string, error) {
	if strings.Contains(spec, "://") {
		return spec, nil
	}
	if pulled := filepath.Join(a.modelDir(), folderOf(spec)); !exists(spec) && exists(pulled) {
		return pulled, nil
	}
	return filepath.Abs(spec)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// pulledModels returns the folders of models in a folder.
func pulledModels(dir string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*", "model.safetensors"))
	for i, path := range found {
		found[i] = filepath.Dir(path)
	}
	return slices.DeleteFunc(found, func(dir string) bool { return strings.HasSuffix(dir, partly) }), err
}

// namedModel is a model that is opened when it is first asked: most commands do not.
type namedModel struct {
	name string
	dim  int
	spec string

	mu     sync.Mutex
	opened episodic.Embedder
	err    error // of the last attempt to open it
}

func (m *namedModel) Name() string { return m.name }
func (m *namedModel) Dim() int     { return m.dim }

func (m *namedModel) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	opened, err := m.open(ctx)
	if err != nil {
		return nil, err
	}
	return opened.Embed(ctx, texts)
}

func (m *namedModel) open(ctx context.Context) (episodic.Embedder, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.opened != nil {
		return m.opened, nil
	}
	opened, err := episodic.OpenEmbedder(ctx, m.spec)
	if err == nil && (opened.Name() != m.name || opened.Dim() != m.dim) {
		err = fmt.Errorf("there is another model at %s now, %s; episodic model use takes it into use", m.spec, opened.Name())
	}
	if m.err = err; err != nil {
		return nil, err
	}
	m.opened = opened
	return opened, nil
}

// reason is why the model could not be opened; nil if it could, or was not asked.
func (m *namedModel) reason() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// chooseModel returns the model that a command is to use with a database: that of --model, or
// that which the database names. Where it cannot be had the user is told, and the command
// goes on without.
func (a *app) chooseModel(ctx context.Context, target string, options *episodic.Options) *namedModel {
	switch a.modelSpec {
	case noModel:
		return nil
	case "":
		m, err := a.modelInUse(ctx, target, options)
		if err != nil {
			a.complain("%v; it goes on without an embedding model", err)
		}
		return m
	}
	spec, err := a.resolveModel(a.modelSpec)
	var m episodic.Embedder
	if err == nil {
		m, err = episodic.OpenEmbedder(ctx, spec)
	}
	if err != nil {
		a.complain("%v; it goes on without an embedding model", err)
		return nil
	}
	return &namedModel{name: m.Name(), dim: m.Dim(), opened: m}
}

// modelInUse is the model that a database names; nil if it names none, and on a server.
func (a *app) modelInUse(ctx context.Context, target string, options *episodic.Options) (*namedModel, error) {
	places, err := a.modelPlaces()
	if err != nil || len(places) == 0 || isServer(target) {
		return nil, err // nobody has taken a model into use; the database need not be asked
	}
	must := *options
	must.MustExist = true
	store, err := episodic.Open(ctx, target, &must)
	if err != nil {
		return nil, nil // whoever opens it after this tells why
	}
	name, dim, err := store.UsedSearchModel(ctx)
	if err := errors.Join(err, store.Close()); err != nil || name == "" {
		return nil, err
	}
	for _, p := range places {
		if p.Name == name {
			return &namedModel{name: name, dim: dim, spec: p.Spec}, nil
		}
	}
	return nil, fmt.Errorf("this database uses the model %s, and it is not known where that is; episodic model use says it", oneLine(name))
}

func isServer(target string) bool {
	scheme, _, isURL := strings.Cut(target, "://")
	return isURL && !strings.EqualFold(scheme, "file")
}
