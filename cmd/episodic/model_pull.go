package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/episodic-memory/episodic"
)

const (
	publicHub   = "https://huggingface.co"
	hubVariable = "HF_ENDPOINT"
	// partly ends the names of folders whose download is under way.
	partly = ".part"
)

// modelFiles are the files of a model that are read; those that not every model has are
// optional.
var modelFiles = []struct {
	name     string
	optional bool
}{
	{name: "config.json"},
	{name: "tokenizer.json"},
	{name: "sentence_bert_config.json", optional: true},
	{name: "1_Pooling/config.json", optional: true},
	{name: "model.safetensors"},
}

type modelPullCmd struct {
	Model    string `arg:"" placeholder:"OWNER/NAME|URL" help:"A model of the hub, which is $HF_ENDPOINT or else huggingface.co, or its URL at another one."`
	Revision string `default:"main" placeholder:"NAME" help:"A branch, tag or commit."`
	To       string `placeholder:"DIR" help:"The folder to make; otherwise one in your data folder."`
}

// Help is shown by model pull --help.
func (*modelPullCmd) Help() string {
	return `Downloads config.json, tokenizer.json and model.safetensors of a static model (Model2Vec) or a BERT encoder, opens them to see whether they can be used, and only then puts the folder in its place. Nothing is left of a download that fails. Nothing is used until episodic model use says so.`
}

var hubName = regexp.MustCompile(`^[\w.-]+/[\w.-]+$`)

func (c *modelPullCmd) Run(ctx context.Context, a *app) error {
	base, err := c.base(a)
	if err != nil {
		return err
	}
	dir := c.To
	if dir == "" {
		dir = filepath.Join(a.modelDir(), folderOf(strings.TrimPrefix(base.Path, "/")))
	}
	if exists(dir) {
		return fmt.Errorf("%s is there already; delete it first, or choose another folder with --to", dir)
	}
	part := filepath.Clean(dir) + partly
	if err := os.MkdirAll(filepath.Dir(part), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(part, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is there: another pull is under way, or was killed; delete it in that case", part)
		}
		return err
	}
	err = c.pull(ctx, a, base, part, dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	return nil
}

// base is the URL of the model at the hub.
func (c *modelPullCmd) base(a *app) (*url.URL, error) {
	name, hub := c.Model, strings.TrimSuffix(a.getenv(hubVariable), "/")
	if hub == "" {
		hub = publicHub
	}
	if scheme, _, isURL := strings.Cut(c.Model, "://"); !isURL {
		if !hubName.MatchString(name) {
			return nil, invalid("model", "%.60q is neither OWNER/NAME nor a URL", name)
		}
		name = hub + "/" + name
	} else if scheme != "http" && scheme != "https" {
		return nil, invalid("model", "begins with %.20q; write https://HOST/OWNER/NAME", scheme+"://")
	}
	u, err := url.Parse(strings.TrimSuffix(name, "/"))
	switch {
	case err != nil || u.Host == "" || strings.Trim(u.Path, "/") == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		// The text is not repeated: it may hold a password.
		return nil, invalid("model", "is no URL of a model; write https://HOST/OWNER/NAME")
	case u.Scheme == "http" && !a.allowPlaintext && !isThisMachine(u.Hostname()):
		return nil, invalid("model", "would come unencrypted from %s, so that anybody on the way could change it; use https, or --allow-plaintext", u.Hostname())
	}
	return u, nil
}

func isThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// folderOf is the name of the folder for a model of a hub.
func folderOf(model string) string {
	return strings.NewReplacer("/", "--", `\`, "--", "..", "--").Replace(model)
}

// pull downloads into part and renames it to dir.
func (c *modelPullCmd) pull(ctx context.Context, a *app, base *url.URL, part, dir string) error {
	for _, file := range modelFiles {
		err := c.download(ctx, a, base.JoinPath("resolve", c.Revision, file.name), filepath.Join(part, filepath.FromSlash(file.name)), file.name)
		if err != nil && !(file.optional && errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	m, err := episodic.OpenEmbedder(ctx, part)
	if err != nil {
		return fmt.Errorf("what was pulled cannot be used: %w", err)
	}
	if err := os.Rename(part, dir); err != nil {
		return err
	}
	a.printf("%s, %d numbers, in %s\n", m.Name(), m.Dim(), plain(dir))
	a.complain("episodic model use %s makes searches use it", shellQuote(dir))
	return nil
}

// download writes what a URL gives to a file, and prints its size and hash. The error is
// fs.ErrNotExist if there is nothing.
func (c *modelPullCmd) download(ctx context.Context, a *app, from *url.URL, to, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return fmt.Errorf("%s is not at %s: %w", name, from.Redacted(), fs.ErrNotExist)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s: %s does not give it out (HTTP %d): there is no such model, or it wants a login; download it yourself and use the folder", name, from.Host, resp.StatusCode)
	default:
		return fmt.Errorf("%s: %s answered HTTP %d; try again", name, from.Host, resp.StatusCode)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	bar := newProgress(a.stderr, name, resp.ContentLength, true)
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash, bar), resp.Body)
	bar.done()
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return fmt.Errorf("%s: after %s: %w; try again", name, size(n), err)
	}
	a.printf("%-26s %9s  sha256 %x\n", name, size(n), hash.Sum(nil))
	return nil
}
