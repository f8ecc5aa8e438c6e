package episodic

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/episodic-memory/episodic/internal/codec"
	"github.com/episodic-memory/episodic/internal/engine/remote"
	"github.com/episodic-memory/episodic/internal/payload"
	"github.com/episodic-memory/episodic/internal/pool"
)

// Options changes how a Store is opened. Nil and the zero value give the
// defaults named beside each field.
type Options struct {
	// AuthToken returns the bearer token for a libSQL server. It is called for
	// every request, so that a token can be renewed while the Store is open, and
	// must be safe for concurrent use. Its context has the values of the caller whose
	// call the request is for, unless the calls of several share it or it closes a
	// stream. Nil: the URL's authToken parameter, or no token. Unused for a local file.
	AuthToken func(context.Context) (string, error)

	// Namespace is the database on a server that has several (sqld
	// --enable-namespaces). Default: the target's parameter namespace; without one the
	// server goes by the first label of the host. Unused for a local file.
	Namespace string

	// Replicas are servers that answer reads too, HOST or HOST:PORT each; they are reached
	// as the target is, which names the primary. Writes go to the primary. A read goes to one
	// of the servers that are about as near as the nearest, and to another one if that does
	// not answer; it always shows what this Store has read or written before.
	// Default: those behind the first host of the target, with commas between; or none.
	Replicas []string

	// BasicAuth is USER:PASSWORD of HTTP basic authentication, for a server or a gateway
	// that wants that in place of a token: there can be only one of them. Default: what
	// the target has before its host. Unused for a local file.
	BasicAuth string

	// TLS says which server is trusted, and who this program is. Unused without TLS.
	TLS TLS

	// Proxy is the URL of an HTTP, HTTPS or SOCKS proxy to the server: http://HOST:PORT,
	// https://, socks5:// (looks the server up itself) or socks5h://, with USER:PASSWORD@ if
	// it wants that. A server on this machine is reached without one. Default: the
	// environment's HTTPS_PROXY, or HTTP_PROXY for http://, but for the hosts that
	// NO_PROXY names (as net/http.ProxyFromEnvironment).
	Proxy string

	// AllowPlaintext lets http:// reach other machines than this one. Default: only
	// loopback addresses are connected to, because data and token would travel
	// unencrypted. localhost and all names under it are such addresses, whatever DNS
	// says.
	AllowPlaintext bool

	// AllowNetworkFile lets a local file lie on a network file system (NFS, SMB, CIFS, Ceph,
	// AFS, Coda, Lustre, GPFS, GFS2, OCFS2, as far as Linux tells). Default: Open refuses it
	// with ErrInvalid, because two machines that use such a file at the same time damage it;
	// set it if only one machine ever does.
	AllowNetworkFile bool

	// MustExist makes Open fail with ErrNotFound where there is no memory yet.
	// Default: it is created.
	MustExist bool

	// DisableUpgrade is for programs that only read. It leaves a local file of an older version as
	// it is, so that the programs that made it can use it. The Store then reads an upgraded copy,
	// which it makes in os.TempDir and deletes when it is closed: it takes the time and the room of
	// a copy, shows what was there when it was opened, and fails writes with ErrReadOnly. Default:
	// Open upgrades the file, after it has made a copy beside it; see Notices. A file of this
	// version whose end is missing is read as far as it goes, and told by Notices; a read that
	// comes to what is missing fails with ErrCorrupt, and so does each write. Default: Open fails
	// with ErrCorrupt. A file that nobody has open on a full disk, which has no room for a log, is
	// read without one; nobody may write it meanwhile. Default: Open fails with ErrFull. Without
	// effect on any other file, and on a server.
	DisableUpgrade bool

	// CacheDir is the folder in which replicas of servers' memories are kept (see Replica).
	// Only its owner may read them. Unused for a local file.
	// Default: episodic in os.UserCacheDir; where there is none nothing is kept.
	CacheDir string
	// DisableCacheDir keeps nothing there.
	DisableCacheDir bool

	// StateDir is the folder in which writes are queued if Replica.Offline is Queue, in a file
	// for each server and scope. It holds acknowledged writes that are nowhere else, so it must
	// be kept. Default: episodic in XDG_STATE_HOME or ~/.local/state; on macOS in
	// ~/Library/Application Support, on Windows in %LocalAppData%.
	StateDir string

	// LockDir is the folder of lock files by which the processes of this machine take turns
	// to write to the same database. Containers that share a machine can be given the same
	// one; without it each counts as a machine of its own. It should be on a local disk, and
	// private to those who write. Default: episodic-UID in os.TempDir().
	LockDir string

	// Pool says how many connections to a server there are, and KeepAlive how idle
	// ones are watched. Unused for a local file.
	Pool      Pool
	KeepAlive KeepAlive

	// Compression says how what is stored is made small. Whatever it says, a
	// Store reads what any other has written.
	Compression Compression

	// IndexSteps has a server index the words of steps too, and not only those of heads, so
	// that Search finds them there. They travel and are stored in plain, which takes about
	// as many bytes as the compressed steps. A file's index has them always.
	IndexSteps bool

	// Cache says what is kept in memory of what was read.
	Cache Cache

	// Vectors says how much memory Nearest may use.
	Vectors Vectors

	// Replica says whether a server's memory is kept on this machine too.
	Replica Replica

	// Embedder is a model by which searches of a local file compare meanings, besides
	// words. A goroutine makes vectors of the tasks and steps that have none by it, from a second
	// after Open or a write on, and stores them beside the index, a quarter of their size in
	// float32; until then, and when the model fails, searches do without. Close cancels that, and it goes on the
	// next time; EmbedDocuments does it at once. Models of different names exist side by side, each
	// with vectors of its own. Refused for a server, which has no index of steps, and if
	// vectors stored under the model's name have another dimension. It is not
	// closed by the Store. Default: none.
	Embedder Embedder

	// Redact says what becomes of secrets in what is to be stored. Default: they are replaced.
	Redact Redact

	// Scope narrows the Store, as Store.Scoped does. Default: everything.
	Scope Scope

	// Logger is told what no call reports. Warn: a server is considered down, so that
	// calls fail at once; a dictionary cannot be trained or used; the search index could not
	// be put in order; the Embedder failed. Info: the server is
	// back, or has moved to another address; a dictionary is adopted. Debug: secrets were redacted,
	// by kind; a request is sent again; a stream on the server was lost; the server refuses to
	// write, and connections are opened anew. No record holds a token, SQL, or anything stored, but
	// the server's host and port are in it. Default nil: nothing is logged.
	Logger *slog.Logger

	// Tracer is told when each call of the Store begins and ends. Package otel has one
	// for OpenTelemetry. Default nil: nothing is traced, and it costs nothing.
	Tracer Tracer
}

// TLS names files in PEM format. A relative name is relative to the working directory.
type TLS struct {
	// CAFile holds the certificates of the authorities that the server's certificate may
	// come from, in place of those that the system trusts. Default: the target's
	// parameter ca, or the system's, which on Linux SSL_CERT_FILE and SSL_CERT_DIR
	// change.
	CAFile string
	// CertFile is this program's certificate, followed by those between it and the
	// authority, for a server or a gateway that wants one, and KeyFile its private key.
	// Both are read anew for each connection, so that they can be renewed while the
	// Store is open. Default: the target's parameters cert and key, or none. Without a
	// KeyFile the CertFile holds the key too.
	CertFile, KeyFile string
}

// Tracer traces the calls of a Store. It must be safe for concurrent use.
type Tracer interface {
	// Start is called when a call begins whose method is operation, such as
	// PutEpisode. The call goes on with the returned context, and calls end once,
	// with the error that it returns. An iterator calls Start for each page that it
	// reads, with the operation of the method that lists one; Watch is not traced.
	Start(ctx context.Context, operation string) (_ context.Context, end func(err error))
}

// Compression says how the payloads of episodes, steps, patterns, heuristics and
// relations are compressed before they travel and are stored. Stores with
// different settings can share a database, and settings can be changed at any
// time; what is stored stays as it is until it is written again. What is searched
// and filtered by is never compressed. The zero value of every field means its
// default: all of it is on.
type Compression struct {
	// Codec is the way to compress. Default Zstd.
	Codec Codec
	// Level is how hard to try. Default LevelDefault.
	Level Level
	// Threshold is the size, in bytes, of the smallest payload that is compressed.
	// Not negative, default 1024, or 64 with a dictionary; Uncompressed switches
	// compression off. A payload that would not
	// get smaller is stored uncompressed in any case.
	Threshold int
	// DisableEpisodes stores episodes and steps uncompressed.
	DisableEpisodes bool
	// DisablePatterns stores patterns, heuristics and relations uncompressed.
	DisablePatterns bool
	// Embeddings is the format in which vectors are stored from now on; what is
	// stored in another one is read all the same. Default Float16.
	Embeddings VectorFormat
	// DisableDictionaries compresses without dictionaries and trains none. Short
	// payloads then shrink little. Default: a built-in dictionary is used first, and
	// better ones are trained from stored payloads at 60 and at 600 items, in the
	// background, which takes at most 2 s of one processor each time. They are kept
	// in the database, 112 KiB for episodes and 32 KiB for patterns, and used by all
	// Stores that are open on it.
	DisableDictionaries bool
}

// Codec is a way to compress. Zstd and Gzip use dictionaries.
type Codec uint8

// The codecs.
const (
	Zstd         Codec = iota // the smallest
	LZ4                       // the fastest, and three times as large
	Gzip                      // deflate; between the two
	Uncompressed              // payloads are stored as they are
)

// String returns the name: zstd, lz4, gzip or none.
func (c Codec) String() string { return codec.Codec(c).String() }

// Level is how hard a Codec tries. It makes no difference to reading.
type Level uint8

// The levels. Figures are those of Zstd with a dictionary: time for 13 KB of steps,
// and memory of one encoder. There are up to 4 encoders for each dictionary, of
// which at most 3 are used: at LevelFast that is 5 MB typically and 60 MB at most, at
// LevelBetter 18 and 216.
const (
	// LevelDefault is LevelFast for a local file, and LevelBetter for a server, where
	// bytes cost more than the time to save them.
	LevelDefault Level = iota
	// LevelFast takes 0.04 ms and 5 MB. What it writes is 8 to 20 % larger than at
	// LevelBetter, until Compact writes it again.
	LevelFast
	LevelBetter // 0.3 ms, 18 MB; the least that Compact uses
	LevelBest   // 4 ms, 80 MB, 3 to 11 % smaller
)

// String returns the name: default, fast, better or best.
func (l Level) String() string { return codec.Level(l).String() }

// cacheDir is CacheDir or its default; empty: nothing is kept.
func (o *Options) cacheDir() string {
	switch {
	case o.DisableCacheDir:
		return ""
	case o.CacheDir != "":
		return o.CacheDir
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(user, "episodic")
}

// serverKey names the database at t for files of this machine, and tells nobody its address.
func (o *Options) serverKey(t target) string {
	server := t.url
	if namespace := o.namespaceFor(t); namespace != "" {
		server += "?" + namespace
	}
	sum := sha256.Sum256([]byte(server))
	return hex.EncodeToString(sum[:8])
}

func (c *Compression) payloadOptions(log *slog.Logger) payload.Options {
	return payload.Options{
		Codec: codec.Codec(c.Codec), Level: codec.Level(c.Level), Threshold: c.Threshold,
		DisableEpisodes: c.DisableEpisodes, DisablePatterns: c.DisablePatterns, DisableDictionaries: c.DisableDictionaries,
		Logger: log,
	}
}

func (c *Compression) validate() error {
	if bad, ok := errors.AsType[*codec.OptionError](c.payloadOptions(nil).Validate()); ok {
		return invalid("Compression."+bad.Field, "%s", bad.Problem)
	}
	if int(c.Embeddings) >= len(vectorFormats) {
		return invalid("Compression.Embeddings", "is %v, must be one of %s", c.Embeddings, strings.Join(vectorFormats[:], ", "))
	}
	return nil
}

// VectorFormat is how the numbers of an embedding are stored. It is chosen when
// a vector is written, and any Store reads all formats. Each is libSQL's own, so
// that the server's vector functions take what is stored.
//
// A vector is stored in the next more precise format if its relative quantization
// error exceeds 1/2048 (Float16) or 1/32 (Int8); none of those measured below did.
type VectorFormat uint8

// The formats. Recall@10 is the part of the ten nearest by Float32 that are still
// among the ten nearest: the first figure is for sentences (LSA, 384 numbers), the
// second for random clusters, where all members are about as near. bench/README.md
// says more; measure on vectors of your model.
const (
	// Float16, the default, is half the bytes: recall 0.9998 and 0.9996. Each number
	// keeps 11 bits; one below 2^-14 is off by up to 2^-25. Vectors it would move by
	// more than 1/2048 become Float32: they are very small, or hold a number of
	// 65,520 or more.
	Float16 VectorFormat = iota
	// Float32 is four bytes a number. What is read is what was put, bit for bit.
	Float32
	// Int8 is a quarter of the bytes, and 11 to 14: recall 0.994 and 0.989. Each
	// number becomes the nearest of 256, in even steps from the least of the vector
	// to the greatest. Vectors it would move by more than 1/32 become Float16: they
	// hold a few large numbers and many small ones.
	Int8
)

var vectorFormats = [...]string{Float16: "float16", Float32: "float32", Int8: "int8"}

func (f VectorFormat) String() string {
	if int(f) < len(vectorFormats) {
		return vectorFormats[f]
	}
	return fmt.Sprintf("unknown (%d)", uint8(f))
}

// Pool says how many connections to a libSQL server a Store has. Their number
// follows the load. A connection carries one request at a time; reads that find
// none idle travel together on the next free one. The zero value of every field
// means its default.
type Pool struct {
	// MinConns is the number of connections kept from the first call on. Default
	// 2, or MaxConns if that is less.
	MinConns int
	// MaxConns bounds connections and dials under way together. Default 10, or
	// MinConns if that is more. A server serves 128 requests at once, for all its
	// clients together.
	MaxConns int
	// ScaleUpAt is the utilisation (connections in use / open, weighted by time
	// over a second) at which the pool grows before anybody waits; it also grows
	// when the queue would outlast a dial. In (0, 1], default 0.8.
	ScaleUpAt float64
	// ScaleDownAt is the utilisation that the busiest second of the last 30 must
	// not have exceeded for the pool to shrink. In (0, ScaleUpAt), default 0.3.
	ScaleDownAt float64
	// MaxWaiters bounds the requests that wait for a connection; one more fails
	// with a Retryable error. Default 256. Reads that wait together are one.
	MaxWaiters int
	// MaxLifetime is the age at which a connection is replaced, less up to 10 % of
	// jitter. Default 30 min.
	MaxLifetime time.Duration
}

// KeepAlive says how idle connections to a libSQL server are watched. A ping is
// an HTTP request that needs no database: it wakes none and is billed by none.
// The zero value of every field means its default.
type KeepAlive struct {
	// Disabled switches pings in the background off. A stale connection is
	// validated before it is used all the same.
	Disabled bool
	// Interval is the silence after which a connection is pinged, less up to 10 %
	// of jitter. At least 5 s, default 30 s.
	Interval time.Duration
	// StaleAfter is the silence after which a connection is not used before it
	// has answered a ping. More than Interval; default 60 s, or twice Interval if
	// that is more.
	StaleAfter time.Duration
	// PingTimeout bounds one ping. At most 5 s, default 2 s.
	PingTimeout time.Duration
	// IdleShutdown is the time without a call after which pings end and all
	// connections but one are closed, so that an idle program keeps no server
	// awake. Default 10 min.
	IdleShutdown time.Duration
}

// tokenFor returns the callback for the token to t: what the target carries is
// for want of an AuthToken.
func (o *Options) tokenFor(t target) func(context.Context) (string, error) {
	if o.AuthToken == nil && t.token != "" {
		return StaticToken(t.token)
	}
	return o.AuthToken
}

// remoteConfig returns what says how to reach the server t: the options, or for want of
// them what t carries. The error is an *InvalidError that names the option.
func (o *Options) remoteConfig(t target) (remote.Config, error) {
	c := remote.Config{
		URL: t.url, Token: o.tokenFor(t), Namespace: o.namespaceFor(t), BasicAuth: cmp.Or(o.BasicAuth, t.basicAuth),
		AllowPlaintext: o.AllowPlaintext, LockDir: o.LockDir, Logger: o.Logger,
	}
	c.Replicas = t.replicas
	if o.Replicas != nil {
		var err error
		if c.Replicas, err = replicaURLs(t.url, o.Replicas, o.AllowPlaintext); err != nil {
			return c, invalid("Replicas", "%v", err)
		}
	}
	named := func(option, value string) string {
		if value == "" {
			return "target"
		}
		return option
	}
	user, _, found := strings.Cut(c.BasicAuth, ":")
	switch {
	case c.BasicAuth == "":
	case !found || user == "" || strings.ContainsFunc(c.BasicAuth, unicode.IsControl):
		return c, invalid(named("BasicAuth", o.BasicAuth), "basic authentication needs USER:PASSWORD, without control characters")
	case c.Token != nil:
		return c, invalid(named("BasicAuth", o.BasicAuth), "basic authentication and a token exclude each other: a request has one Authorization header")
	}
	if len(c.Namespace) > maxNamespace || strings.ContainsFunc(c.Namespace, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }) {
		return c, invalid(named("Namespace", o.Namespace), "the name of a namespace has at most %d bytes and no control characters", maxNamespace)
	}
	var err error
	if c.TLS, err = o.TLS.config(t); err != nil {
		return c, err
	}
	if o.Proxy != "" {
		if c.Proxy, err = url.Parse(o.Proxy); err != nil || c.Proxy.Hostname() == "" || !slices.Contains(proxySchemes, c.Proxy.Scheme) {
			// url.Parse repeats the whole URL in its error, the password too.
			return c, invalid("Proxy", "is not the URL of a proxy; write http://HOST:PORT, https://, socks5:// or socks5h://")
		}
	}
	return c, nil
}

// maxNamespace bounds the name of a namespace, in bytes.
const maxNamespace = 255

var proxySchemes = []string{"http", "https", "socks5", "socks5h"}

// namespaceFor returns the namespace on the server t, empty if t's host says it.
func (o *Options) namespaceFor(t target) string { return cmp.Or(o.Namespace, t.namespace) }

// config returns the configuration of TLS with the server t.
func (o TLS) config(t target) (*tls.Config, error) {
	fromTarget := func(parameter, path string) pemFile { return pemFile{"target", "parameter " + parameter + " ", path} }
	ca, cert, key := pemFile{"TLS.CAFile", "", o.CAFile}, pemFile{"TLS.CertFile", "", o.CertFile}, pemFile{"TLS.KeyFile", "", o.KeyFile}
	if ca.path == "" {
		ca = fromTarget("ca", t.ca)
	}
	if cert.path == "" && key.path == "" {
		cert, key = fromTarget("cert", t.cert), fromTarget("key", t.key)
	}
	c := &tls.Config{}
	if ca.path != "" {
		text, err := os.ReadFile(ca.path)
		if err != nil {
			return nil, ca.invalid("cannot be read: %v", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, ca.invalid("names a file without a certificate in PEM format: %s", ca.path)
		}
	}
	switch {
	case cert.path == "" && key.path != "":
		return nil, key.invalid("names a key without a certificate")
	case cert.path != "":
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert.path, cmp.Or(key.path, cert.path))
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, cert.invalid("and its key cannot be used: %v", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return c, nil
}

// pemFile is a file, and what names it: an option, or a part of the target.
type pemFile struct{ field, part, path string }

func (f pemFile) invalid(format string, args ...any) error {
	return invalid(f.field, "%s", f.part+fmt.Sprintf(format, args...))
}

// poolOptions returns what the pool of connections is told. The error is an
// *InvalidError that names the option.
func (o *Options) poolOptions() (pool.Options, error) {
	p := pool.Options{
		MinConns: o.Pool.MinConns, MaxConns: o.Pool.MaxConns,
		ScaleUpAt: o.Pool.ScaleUpAt, ScaleDownAt: o.Pool.ScaleDownAt,
		MaxWaiters: o.Pool.MaxWaiters, MaxLifetime: o.Pool.MaxLifetime,
		KeepAlive: pool.KeepAlive(o.KeepAlive),
	}
	if bad, ok := errors.AsType[*pool.OptionError](p.Validate()); ok {
		field := bad.Field
		if !strings.HasPrefix(field, "KeepAlive.") {
			field = "Pool." + field
		}
		return p, invalid(field, "%s", bad.Problem)
	}
	return p, nil
}

// StaticToken returns an Options.AuthToken that always gives the same token.
func StaticToken(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}
