package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/episodic-memory/episodic"
)

type modelCmd struct {
	List modelListCmd `cmd:"" help:"List the models that this database has vectors of, and those that were pulled."`
	Pull modelPullCmd `cmd:"" help:"Download a model from a hub."`
	Use  modelUseCmd  `cmd:"" help:"Say which model searches of this database are to use, or none."`
	Drop modelDropCmd `cmd:"" help:"Delete the vectors that this database has of a model."`
}

// Help is shown by model --help.
func (*modelCmd) Help() string {
	return `Searches of a file compare meanings by a small table in this program. An embedding model of your choice can take its place: a folder with a static model (Model2Vec) or a BERT encoder (all-MiniLM-L6-v2), or a server with OpenAI's interface for embeddings, whose key is $EPISODIC_EMBEDDER_KEY. Where the model does not answer, searches go on without it.`
}

type modelListCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *modelListCmd) Run(ctx context.Context, a *app) error {
	a.modelSpec = noModel // it need not be opened
	models := []episodic.SearchModel{}
	err := a.withMemory(ctx, func(*episodic.Store) error {
		list, err := a.whole.SearchModels(ctx)
		models = append(models, list...)
		return err
	})
	if err != nil && !errors.Is(err, errNoMemory) {
		return err
	}
	pulled, err := pulledModels(a.modelDir())
	if err != nil {
		return err
	}
	if c.JSON {
		return a.printJSON(struct {
			Models []episodic.SearchModel `json:"models"`
			Pulled []string               `json:"pulled"`
		}{models, append([]string{}, pulled...)})
	}
	for _, m := range models {
		a.printModel(&m)
	}
	for _, dir := range pulled {
		a.printf("pulled      %s\n", plain(dir))
	}
	if len(models)+len(pulled) == 0 {
		a.complain("there is no model; episodic model pull minishlab/potion-base-8M gets one, and episodic model use takes one into use")
	}
	return nil
}

func (a *app) printModel(m *episodic.SearchModel) {
	used := ""
	if m.Used {
		used = ", used"
	}
	covered := 100.0
	if all := m.Embedded + m.Refused + m.Waiting; all > 0 {
		covered = 100 * float64(m.Embedded) / float64(all)
	}
	a.printf("%s: %d numbers, %s embedded (%.0f %%)%s, %s%s\n", oneLine(m.Name), m.Dim,
		count(int(m.Embedded), "document"), covered, also(uint64(m.Refused), "refused"), size(m.Bytes), used)
}

type modelUseCmd struct {
	Spec string `arg:"" placeholder:"FOLDER|URL#MODEL|none" help:"A folder, https://HOST/v1#MODEL, http://localhost:PORT/v1#MODEL, what model pull has pulled by its name, or none."`
	Now  bool   `help:"Make the vectors of what is stored at once, without asking."`
}

// Help is shown by model use --help.
func (*modelUseCmd) Help() string {
	return `The name of the model is noted in the database, and where it is to be found in your data folder: from then on all commands that search or store use it. Vectors of what is stored are made at once if you say so, and otherwise by episodic compact and by programs that run longer than a second.`
}

func (c *modelUseCmd) Run(ctx context.Context, a *app) error {
	if c.Spec == noModel {
		a.modelSpec = noModel
		return a.withMemory(ctx, func(*episodic.Store) error { return a.whole.UseSearchModel(ctx, "") })
	}
	spec, err := a.resolveModel(c.Spec)
	if err != nil {
		return err
	}
	m, err := episodic.OpenEmbedder(ctx, spec)
	if err != nil {
		return err
	}
	a.model = &namedModel{name: m.Name(), dim: m.Dim(), opened: m}
	return a.withMemory(ctx, func(*episodic.Store) error {
		// The place first: a name without one would be of no use.
		if err := a.rememberModel(modelPlace{m.Name(), m.Dim(), spec}); err != nil {
			return err
		}
		if err := a.whole.UseSearchModel(ctx, m.Name()); err != nil {
			return err
		}
		a.printf("searches use %s from now on\n", oneLine(m.Name()))
		n, err := a.waitingFor(ctx, m.Name())
		if err != nil || n == 0 {
			return err
		}
		if !c.Now && !a.confirm(fmt.Sprintf("make the vectors of %s now?", count(int(n), "document"))) {
			a.complain("%s of it; episodic compact makes them", lacking(n))
			return nil
		}
		return a.embedNow(ctx, false)
	})
}

// waitingFor is how many documents have no vector of a model.
func (a *app) waitingFor(ctx context.Context, name string) (int64, error) {
	models, err := a.whole.SearchModels(ctx)
	for _, m := range models {
		if m.Name == name {
			return m.Waiting, err
		}
	}
	return 0, err
}

func lacking(n int64) string {
	if n == 1 {
		return "1 document has no vector"
	}
	return fmt.Sprintf("%d documents have no vector", n)
}

// embedNow makes the vectors that are missing, shows how far it is, and prints what was done
// unless it is to be quiet.
func (a *app) embedNow(ctx context.Context, quiet bool) error {
	var bar *progress
	before := a.whole.Stats().Embedder.Embedded
	err := a.whole.EmbedDocuments(ctx, func(done, all int64) {
		if bar == nil {
			bar = newProgress(a.stderr, "embed", all, false)
		}
		bar.set(done)
	})
	bar.done()
	if errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	if err != nil {
		return fmt.Errorf("%w; episodic compact goes on from there", err)
	}
	if made := a.whole.Stats().Embedder.Embedded - before; made > 0 && !quiet {
		a.printf("%s embedded by %s\n", count(int(made), "document"), oneLine(a.model.name))
	}
	return nil
}

// confirm asks a question on a terminal; the answer is no where there is none.
func (a *app) confirm(question string) bool {
	in, isFile := a.stdin.(*os.File)
	if !isFile || !term.IsTerminal(int(in.Fd())) || !isTerminal(a.stderr) {
		return false
	}
	fmt.Fprintf(a.stderr, "%s [Y/n] ", question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return err == nil && (answer == "" || strings.HasPrefix(answer, "y"))
}

type modelDropCmd struct {
	Name string `arg:"" help:"As model list prints it."`
}

func (c *modelDropCmd) Run(ctx context.Context, a *app) error {
	a.modelSpec = noModel
	return a.withMemory(ctx, func(*episodic.Store) error {
		err := a.whole.DropSearchModel(ctx, c.Name)
		if errors.Is(err, episodic.ErrNotFound) {
			return fmt.Errorf("%w; episodic model list prints the names", errNoModel)
		}
		if err == nil {
			a.printf("dropped %s\n", oneLine(c.Name))
		}
		return err
	})
}

var errNoModel = errors.New("this database has no vectors of such a model")
