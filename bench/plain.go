package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/pierrec/lz4/v4"

	"github.com/episodic-memory/episodic"
)

// plainClient uses a server the simple way: a request for each statement, in
// Hrana 3 as JSON, over kept connections.
type plainClient struct {
	url, token string
	http       http.Client
}

// newPlainClient returns a client that asks for compressed answers, as net/http
// does, or does not.
func newPlainClient(url string, gzip bool) *plainClient {
	return &plainClient{url, wireToken, http.Client{Transport: &http.Transport{DisableCompression: !gzip}}}
}

func (c *plainClient) close() { c.http.CloseIdleConnections() }

type plainValue struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type plainStmt struct {
	SQL  string       `json:"sql"`
	Args []plainValue `json:"args,omitempty"`
}

type plainRequest struct {
	Type string     `json:"type"`
	Stmt *plainStmt `json:"stmt,omitempty"`
}

type plainAnswer struct {
	Results []struct {
		Type  string `json:"type"`
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
		Response struct {
			Result struct {
				Rows [][]plainValue `json:"rows"`
			} `json:"result"`
		} `json:"response"`
	} `json:"results"`
}

// execute runs a statement on texts, as a transaction of its own, and returns
// the rows.
func (c *plainClient) execute(ctx context.Context, sql string, args ...string) ([][]plainValue, error) {
	stmt := &plainStmt{SQL: sql}
	for _, a := range args {
		stmt.Args = append(stmt.Args, plainValue{"text", a})
	}
	body := document(map[string]any{"requests": []plainRequest{{"execute", stmt}, {Type: "close"}}})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v3/pipeline", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var answer plainAnswer
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %.200s", resp.Status, text)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, err
	}
	if len(answer.Results) != 2 || answer.Results[0].Type != "ok" {
		return nil, fmt.Errorf("the server does not answer ok: %.200s", text)
	}
	return answer.Results[0].Response.Result.Rows, nil
}

// document is v as JSON, without the escapes that only HTML needs.
func document(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // what is encoded here always has a JSON form
	}
	return strings.TrimSuffix(b.String(), "\n")
}

const lz4Prefix = "__compressed__:lz4:"

// lz4Text is a text as a TEXT column holds it, compressed if that makes it
// shorter.
func lz4Text(text string) (string, error) {
	block := make([]byte, 4+lz4.CompressBlockBound(len(text)))
	binary.LittleEndian.PutUint32(block, uint32(len(text)))
	n, err := lz4.CompressBlock([]byte(text), block[4:], nil)
	if err != nil {
		return "", err
	}
	packed := lz4Prefix + base64.StdEncoding.EncodeToString(block[:4+n])
	if len(packed) >= len(text) {
		return text, nil
	}
	return packed, nil
}

func fromLZ4Text(stored string) (string, error) {
	coded, compressed := strings.CutPrefix(stored, lz4Prefix)
	if !compressed {
		return stored, nil
	}
	block, err := base64.StdEncoding.DecodeString(coded)
	if err != nil {
		return "", err
	}
	text := make([]byte, binary.LittleEndian.Uint32(block))
	n, err := lz4.UncompressBlock(block[4:], text)
	return string(text[:n]), err
}

// plainMemory keeps episodes by a plainClient in one of the simple ways.
type plainMemory struct {
	*plainClient
	pack   func(string) (string, error)
	unpack func(string) (string, error)
}

func asIs(text string) (string, error) { return text, nil }

var (
	errChanged = errors.New("what came back is not what was stored")

	plainTables = []string{
		`CREATE TABLE plain_whole(id TEXT PRIMARY KEY, json TEXT NOT NULL)`,
		`CREATE TABLE plain_columns(id TEXT PRIMARY KEY, ` + strings.Join(plainColumns[1:], " TEXT NOT NULL, ") + ` TEXT NOT NULL)`,
	}
	plainColumns = strings.Fields(`id task_type description domain language framework complexity tags start_time end_time
		steps outcome reward reflection applied_patterns metadata`)
)

// live rewrites the episode with every step, and reads it at last.
func (m *plainMemory) live(ctx context.Context, e *episodic.Episode) error {
	id := episodic.NewID()
	save := func(e episodic.Episode) error {
		e.ID = id
		text, err := m.pack(document(e))
		if err == nil {
			_, err = m.execute(ctx, `INSERT OR REPLACE INTO plain_whole(id, json) VALUES (?, ?)`, id.String(), text)
		}
		return err
	}
	running := begun(e)
	if err := save(running); err != nil {
		return err
	}
	for i := range e.Steps {
		running.Steps = e.Steps[:i+1]
		if err := save(running); err != nil {
			return err
		}
	}
	if err := save(*e); err != nil {
		return err
	}
	rows, err := m.execute(ctx, `SELECT json FROM plain_whole WHERE id = ?`, id.String())
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return errChanged
	}
	text, err := m.unpack(rows[0][0].Value)
	if err != nil {
		return err
	}
	whole := *e
	whole.ID = id
	if text != document(whole) {
		return errChanged
	}
	return nil
}

// keep stores the episode in a column for each field, and reads it.
func (m *plainMemory) keep(ctx context.Context, e *episodic.Episode) error {
	id := episodic.NewID().String()
	values := []string{
		id, string(e.TaskType), e.Description, e.Context.Domain, e.Context.Language, e.Context.Framework, string(e.Context.Complexity),
		document(e.Context.Tags), document(e.Start), document(e.End), document(e.Steps), document(e.Outcome), document(e.Reward),
		document(e.Reflection), document(e.AppliedPatterns), document(e.Metadata),
	}
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(values)), ", ")
	_, err := m.execute(ctx, `INSERT INTO plain_columns(`+strings.Join(plainColumns, ", ")+`) VALUES (`+marks+`)`, values...)
	if err != nil {
		return err
	}
	rows, err := m.execute(ctx, `SELECT * FROM plain_columns WHERE id = ?`, id)
	if err != nil {
		return err
	}
	if len(rows) != 1 || len(rows[0]) != len(values) {
		return errChanged
	}
	for i, v := range rows[0] {
		if v.Value != values[i] {
			return errChanged
		}
	}
	return nil
}

// begun is the episode as it is when it begins.
func begun(e *episodic.Episode) episodic.Episode {
	return episodic.Episode{TaskType: e.TaskType, Description: e.Description, Context: e.Context, Start: e.Start, Metadata: e.Metadata}
}
