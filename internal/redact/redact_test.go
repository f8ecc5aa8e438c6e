package redact

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// planted are made-up secrets by kind. They are put together here, so that no scanner of this
// repository takes them for real ones.
func planted() []struct {
	kind Kind
	text string // what is stored
	hide string // must not be readable in it
} {
	type row = struct {
		kind Kind
		text string
		hide string
	}
	const (
		mixed = "aZ3kQ9xLm2Vt7RbY1wN8cPd5HgJ4fS6uT0eK"
		hex   = "0f3a9c7e5b1d2846a7c90e4f6b8d1357"
		up16  = "Q4ZJ7XKDM2WPL5RB"
		awsec = "kX9/bQ2mLr7+VtYp4WnZs8CdHf3JgTe6RuA1oNiE"
		jwt   = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9" + "." + "eyJpYXQiOjE3MTYyMzkwMjIsImlkIjoiMGYzYTljN2UifQ" + "." + "Zk3_x9Qm-2LrVtYp4WnZs8CdHf3JgTe6RuA1oNiEbXc"
		pem   = "MIIEpAIBAAKCAQEA7b2Zk3x9Qm2LrVtYp4WnZs8CdHf3JgTe6RuA1oNiEbXcQw7K\nV4tq0PzL8sYh2GmRxN5cUeDf1BkJ9aWv3oTi6lSbOyHMnE\nXq7Zt2=="
	)
	one := func(kind Kind, secret string) row { return row{kind, "the key is " + secret + ", keep it", secret} }
	rows := []row{
		one("aws-key-id", "AKIA"+up16),
		one("aws-key-id", "ASIA"+up16),
		{"aws-secret-key", "AKIA" + up16 + "\n" + awsec, awsec},
		{"aws-secret-key", "aws_secret_access_key = " + awsec, awsec},
		{"aws-secret-key", `{"SecretAccessKey": "` + awsec + `"}`, awsec},
		{"aws-secret-key", "secret: " + awsec + "\nid: AKIA" + up16, awsec},
		one("github-token", "ghp_"+mixed),
		one("github-token", "gho_"+mixed),
		one("github-token", "ghs_"+mixed),
		one("github-token", "github_pat_"+mixed[:22]+"_"+mixed+mixed[:23]),
		{"github-token", "git clone https://x-access-token:ghp_" + mixed + "@github.com/a/b", "ghp_" + mixed},
		{"github-token", `echo "a\nghp_` + mixed + `"`, mixed},
		{"github-token", "\x1b[01;31m\x1b[Kghp_" + mixed, mixed},
		{"github-token", "GITHUB_TOKEN=ghp_" + mixed, mixed},
		one("gitlab-token", "glpat-"+mixed[:20]),
		one("gitlab-token", "glrt-"+mixed[:20]),
		one("slack-token", "xoxb-"+"123456789012-1234567890123-"+mixed[:24]),
		one("slack-token", "xoxp-"+"123456789012-1234567890123-"+hex),
		one("slack-token", "xapp-"+"1-A012345-123456789-"+hex),
		{"webhook", "curl https://hooks.slack.com/services/" + "T0AB12CD3/B0EF45GH6/" + mixed[:24], mixed[:24]},
		one("stripe-key", "sk_live_"+mixed[:24]),
		one("stripe-key", "rk_live_"+mixed[:24]),
		one("openai-key", "sk-"+mixed+mixed[:12]),
		one("openai-key", "sk-proj-"+mixed+"_"+mixed),
		one("anthropic-key", "sk-ant-"+"api03-"+mixed+"-"+mixed+"AA"),
		one("google-key", "AIza"+"Sy"+mixed[:33]),
		one("google-token", "ya29."+"a0Af_"+mixed),
		one("google-client-secret", "GOCSPX-"+mixed[:28]),
		one("episodic-token", "epi_"+up16+up16[:10]),
		one("npm-token", "npm_"+mixed),
		{"npm-token", "//registry.npmjs.org/:_authToken=npm_" + mixed, mixed},
		one("pypi-token", "pypi-AgE"+"IcHlwaS5vcmc"+mixed+mixed),
		one("huggingface-token", "hf_"+mixed[:34]),
		one("sendgrid-key", "SG."+mixed[:22]+"."+mixed+mixed[:7]),
		one("twilio-key", "SK"+hex),
		{"key", "AccountName=x;AccountKey=" + mixed + mixed + "abcdefgh12ij==;EndpointSuffix=y", mixed},
		{"azure-sas", "https://x.blob.core.windows.net/c?sv=2022-11-02&se=2025&sig=" + mixed + "kPq8%2Bx%3D", mixed},
		{"private-key", "-----BEGIN RSA " + "PRIVATE KEY-----\n" + pem + "\n-----END RSA " + "PRIVATE KEY-----\n", "MIIEpAIBAAKC"},
		{"private-key", "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n" + pem, "XcQw7K"},
		{"private-key", `{"private_key": "-----BEGIN ` + `PRIVATE KEY-----\n` + strings.ReplaceAll(pem, "\n", `\n`) + `\n-----END ` + `PRIVATE KEY-----\n"}`, "MIIEpAIBAAKC"},
		{"private-key", "key = \"-----BEGIN EC " + `PRIVATE KEY-----\\n` + strings.ReplaceAll(pem, "\n", `\\n`) + `\\n-----END EC ` + "PRIVATE KEY-----\"", "VtYp4WnZs8"},
		{"private-key", "     1\t-----BEGIN " + "PRIVATE KEY-----\n     2\t" + strings.ReplaceAll(pem, "\n", "\n     3\t") + "\n     4\t-----END " + "PRIVATE KEY-----", "V4tq0PzL8"},
		one("jwt", jwt),
		{"jwt", "libsql://db-org.turso.io?authToken=" + jwt, jwt},
		{"jwt", "Authorization: Bearer " + jwt, jwt},
		{"url-password", "postgres://app:hunter2@db.internal:5432/x", "hunter2"},
		{"url-password", "postgresql://app:p%40ss-w0rd@db/x", "p%40ss-w0rd"},
		{"url-password", "postgres://app:a/b#9zz@db/x", "a/b#9zz"},
		{"url-password", "mongodb+srv://u:" + mixed[:12] + "@cluster0.ab.mongodb.net", mixed[:12]},
		{"url-password", "REDIS_URL=redis://:" + mixed[:10] + "@cache:6379/0", mixed[:10]},
		{"url-password", "amqp://svc:Tr0ub4dor@mq:5672", "Tr0ub4dor"},
		{"url-password", "mysql://root:toor@10.0.0.1/app", "toor@"},
		{"bearer-token", `curl -H "Authorization: Bearer ` + mixed + `" https://api`, mixed},
		{"basic-auth", "Authorization: Basic " + "YWxhZGRpbjpvcGVuLXMzc2FtZQ==", "YWxhZGRpbjpv"},
		{"token", "Authorization: Token " + hex + "deadbeef", hex},
		{"password", "DB_PASSWORD=hunter2xyz\nDEBUG=1", "hunter2xyz"},
		{"password", `export PGPASSWORD='s3cr3t!'`, "s3cr3t!"},
		{"password", `{"user": "a", "password": "Tr0ub4dor&3"}`, "Tr0ub4dor"},
		{"password", `config = {'password': 'Tr0ub4dor&3'}`, "Tr0ub4dor"},
		{"password", "db:\n  user: app\n  password: hunter2\n", "hunter2"},
		{"password", "db.password = hunter2\n", "hunter2"},
		{"password", "password: MySecret123\n", "MySecret123"},
		{"password", "the password: S3cr3tPass99", "S3cr3tPass99"},
		{"aws-secret-key", "AWS_SECRET_ACCESS_KEY=" + "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY", "K7MDENG"},
		{"url-password", "postgres://app:mysecretpassword@db/x", "mysecretpassword"},
		{"password", `password="+)Tr0ub4dor"`, "Tr0ub4dor"},
		{"password", `run --password=Tr0ub4dor --verbose`, "Tr0ub4dor"},
		{"password", `run --password Tr0ub4dor --verbose`, "Tr0ub4dor"},
		{"password", `mysql -uroot -pTr0ub4dor app`, "Tr0ub4dor"},
		{"password", `sshpass -p 'Tr0ub4dor' ssh host`, "Tr0ub4dor"},
		{"password", `curl -u admin:Tr0ub4dor https://h`, "Tr0ub4dor"},
		{"password", "Server=db;User Id=sa;Password=Tr0ub4dor!;Encrypt=yes", "Tr0ub4dor"},
		{"password", `["mysql", "--password", "Tr0ub4dor"]`, "Tr0ub4dor"},
		{"password", `[{"name": "DB_PASSWORD", "value": "Tr0ub4dor"}]`, "Tr0ub4dor"},
		{"password", `{"input": "{\"password\": \"Tr0ub4dor\"}"}`, "Tr0ub4dor"},
		{"password", `log: {\"password\": \"Tr0ub4dor\"}`, "Tr0ub4dor"},
		{"password", `{"run": "\u0070assword=Tr0ub4dor1"}`, "Tr0ub4dor"},
		{"key", "API_KEY=" + hex, hex},
		{"key", `apiKey: "` + mixed + `"`, mixed},
		{"key", "x-api-key: " + mixed, mixed},
		{"secret", "CLIENT_SECRET=" + mixed, mixed},
		{"secret", `client_secret: '` + hex + `'`, hex},
		{"token", "SLACK_SIGNING_TOKEN=" + mixed, mixed},
		{"token", `"refresh_token": "1//0` + mixed + `"`, mixed},
		one("telegram-token", "123456789:AA"+mixed[:33]),
		one("discord-token", "MTA5"+mixed[:20]+"."+"GaBcDe"+"."+mixed[:30]+mixed[:8]),
		{"webhook", "https://discord.com/api/webhooks/" + "1234567890123456/" + mixed + mixed[:30], mixed},
		one("digitalocean-token", "dop_v1_"+hex+hex),
		one("vault-token", "hvs."+mixed),
		{"github-token", `{"cmd": "\u0067hp_` + mixed + `"}`, mixed},
		{"github-token", "https://x/?t=%3Dghp_" + mixed, mixed},
	}
	return rows
}

func TestSecrets(t *testing.T) {
	kinds := map[Kind]bool{}
	rows := planted()
	for _, row := range rows {
		kinds[row.kind] = true
		for _, text := range []string{row.text, "before it\n" + row.text + "\nbehind it", jsonOf(row.text), jsonOf(jsonOf(row.text))} {
			p := (&Redactor{}).Pass()
			clean := p.Text(text)
			if strings.Contains(clean, row.hide) || p.Found[row.kind] == 0 {
				t.Errorf("%s: %q becomes %q, found %v", row.kind, text, clean, p.Found)
				continue
			}
			if json.Valid([]byte(text)) && !json.Valid([]byte(clean)) {
				t.Errorf("%s: %q is no JSON any more: %q", row.kind, text, clean)
			}
			if again := (&Redactor{}).Pass(); again.Text(clean) != clean {
				t.Errorf("%s: %q becomes %q", row.kind, clean, again.Text(clean))
			}
		}
	}
	if len(rows) < 60 || len(kinds) < 12 {
		t.Errorf("%d secrets of %d kinds", len(rows), len(kinds))
	}
}

// jsonOf is the text as a value in an object.
func jsonOf(text string) string {
	return `{"command":` + string(quoted(text)) + `}`
}

func TestWhatIsNoSecret(t *testing.T) {
	for _, text := range []string{
		"",
		"The password must be at least 8 characters long.",
		"password: str = None, token: Optional[str] = None",
		"password = getpass.getpass()", "password=os.environ['DB_PASSWORD']", "token = self.request.headers['X-Token1']",
		"API_KEY=YOUR_API_KEY", "API_KEY=<your key>", "API_KEY=${API_KEY}", "API_KEY=$API_KEY", "API_KEY=xxxxxxxxxxxxxxxx",
		"API_KEY=process.env.API_KEY", "password=********", `"password": "********"`, `"token": "<token>"`, `{"password": "{{ password }}"}`,
		"TOKEN=$(cat /run/secrets/token)", "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "sk-XXXXXXXXXXXXXXXXXXXXXXXX",
		"PASSWORD_FILE=/run/secrets/db1", "secret: /run/secrets/db1", "token_url = https://auth.example.com/v2/token1",
		"commit 9fceb02d0ae598e95dc970b74767f19372d61af8", "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0bb4da2fbc6c2d5e9f0f0a", "id 550e8400-e29b-41d4-a716-446655440000",
		`"session_token": "550e8400-e29b-41d4-a716-446655440000"`,
		"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg==",
		"class sk-estimator-doc-link sk-container-id-1 sk-text-repr-fallback",
		"max_tokens=4096, pad_token_id=50256, eos_token='<|endoftext|>'", "tokens: 12345", "next_page_token: CAUQAA9xKq3mZ7", "csrftoken=abc123DEF456ghi789JKL012",
		"PASS: 127.0.0.1:8000", "First pass: a1b2c3", "password_hash = pbkdf2_sha256$260000$abc$def1", `"password": "$2b$12$abcdefghijklmnopqrstuv"`,
		"postgres://user:password@localhost/db", "https://user:pass@example.com", "postgres://${USER}:${PASS}@host/db", "http://127.0.0.1:8080/a@b",
		"ssh://git@github.com:22/a/b", "mailto:a@b.c", "npm_config_registry=https://registry.npmjs.org", "hf_hub_download(repo_id)",
		"-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n-----END CERTIFICATE-----",
		"-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA7b2Zk3x9Qm2LrVtYp4Wn\n-----END PUBLIC KEY-----",
		"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7b2Zk3x9Qm2LrVtYp4WnZs8CdHf3JgTe6RuA1oNiEbXc user@host",
		"Basic authentication, bearer of bad news", "Basic dXNlcjpwYXNz", "Authorization: Bearer <token>", "Authorization: Bearer $TOKEN",
		"go.sum h1:Zk3x9Qm2LrVtYp4WnZs8CdHf3JgTe6RuA1oNiEbXcQw=", "if password == 'abc123xyz':", "token != expected1token2", "secret => Secret.new",
		"pk_live_51HaZ3kQ9xLm2Vt7RbY1wN", "AKIA is how they begin", "eyJ is how they begin", "[redacted:password]", "password=[redacted:password]",
		`{"password": "[redacted:password]"}`, "key: value1", "primary_key=user_id1", "monkey=banana12345678", "bypass=abc123def456ghi789",
		"Fix the token refresh in auth2.go:123", "password=None", "pwd=/home/user1/src", "PWD=/home/user1/src2", "OLDPWD=/var/lib2",
		`cmd.Env = append(cmd.Env, "PWD="+r.Dir, "API_KEY="+key1.Value2)`, "PrivateKey: testRSA2048PrivateKey", "arn:aws:secretsmanager:us-east-1:123456789012:secret:Name-6RandomChars",
		"FILTER_PASS = C.ICMPV6_FILTER_PASS", "token: urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"password = password1\n", "pwd: int32)\n", "password = user.pass1\n",
		"const token = await getToken(user1)", "secret_name: projects/12345/secrets/x1", "password: password1234",
	} {
		for _, text := range []string{text, jsonOf(text)} {
			p := (&Redactor{}).Pass()
			if clean := p.Text(text); clean != text {
				t.Errorf("%q becomes %q", text, clean)
			}
		}
	}
}

func TestAllowed(t *testing.T) {
	known, other := "ghp_"+strings.Repeat("aB3", 12), "ghp_"+strings.Repeat("xY7z", 9)
	r, err := New([]string{known, "/sk_test_.*/"})
	if err != nil {
		t.Fatal(err)
	}
	p := r.Pass()
	stripe := "sk_test_" + "aZ3kQ9xLm2Vt7RbY1wN8cPd5"
	if got, want := p.Text(known+" "+other+" "+stripe), known+" [redacted:github-token] "+stripe; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := p.Named("api_key", known); got != known {
		t.Errorf("%q", got)
	}
	if _, err := New([]string{"/(/"}); err == nil {
		t.Error("a wrong expression was taken")
	}
}

func TestNamed(t *testing.T) {
	for _, row := range []struct{ name, value, want string }{
		{"password", "hunter2", "[redacted:password]"},
		{"DB_PASSWORD", "correcthorsebattery", "[redacted:password]"},
		{"apiKey", "0f3a9c7e5b1d2846a7c90e4f6b8d1357", "[redacted:key]"},
		{"token", "ghp_" + strings.Repeat("aB3", 12), "[redacted:github-token]"},
		{"note", "hunter2", "hunter2"},
		{"model", "gpt-4o-2024", "gpt-4o-2024"},
		{"session_id", "0f3a9c7e5b1d2846a7c90e4f6b8d1357", "0f3a9c7e5b1d2846a7c90e4f6b8d1357"},
		{"compass", "north12345", "north12345"},
	} {
		if got := (&Redactor{}).Pass().Named(row.name, row.value); got != row.want {
			t.Errorf("%s: %q becomes %q, want %q", row.name, row.value, got, row.want)
		}
	}
}

// mess is text in which what looks like secrets, and what stands around them, is mixed.
func mess(secrets []string) *rapid.Generator[string] {
	pieces := []string{
		"password", "token", "API_KEY", "secret", "=", ":", " ", "\n", `"`, `'`, `\"`, `\n`, "{", "}", "[", "]", ",", "://", "@", "user", "postgres",
		"-----BEGIN RSA " + "PRIVATE KEY-----", "-----END RSA " + "PRIVATE KEY-----", "abc123", "aZ3kQ9xLm2Vt7RbY1wN8", "Bearer ", "--", "-p", "mysql ", "AKIA", "sk-", "eyJ", ".",
		"[redacted:password]", "x", "=>", "&", "%3D", "AA", "123456789:", "/", "hooks.slack.com/services/",
	}
	pieces = append(pieces, secrets...)
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 30).Draw(t, "pieces"), "")
	})
}

func TestRedactingTwiceChangesNothing(t *testing.T) {
	var secrets []string
	for _, row := range planted() {
		secrets = append(secrets, row.text)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := mess(secrets).Draw(t, "text")
		if rapid.Bool().Draw(t, "JSON") {
			text = jsonOf(text)
		}
		r := &Redactor{}
		once := r.Pass().Text(text)
		if twice := r.Pass().Text(once); twice != once {
			t.Fatalf("%q\nbecomes %q\nand then %q", text, once, twice)
		}
		if json.Valid([]byte(text)) && !json.Valid([]byte(once)) {
			t.Fatalf("%q is no JSON any more: %q", text, once)
		}
	})
}

// A secret whose form tells it is found wherever it stands between spaces.
func TestSecretsInAnyText(t *testing.T) {
	var rows []string
	for _, row := range planted() {
		if strings.HasPrefix(row.text, "the key is ") {
			rows = append(rows, row.hide)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SampledFrom(rows).Draw(t, "secret")
		text := rapid.String().Draw(t, "before") + " " + secret + " " + rapid.String().Draw(t, "behind")
		if clean := (&Redactor{}).Pass().Text(text); strings.Contains(clean, secret) {
			t.Fatalf("%q", clean)
		}
	})
}

func TestUnchangedTextIsNotCopied(t *testing.T) {
	r := &Redactor{}
	for _, text := range []string{
		strings.Repeat("A sentence about token = value and a URL http://host:80/x, and --flag=1.\n", 50),
		`{"command": "ls -l", "list": ["a", {"b": 1.5e3}], "token": null}`,
	} {
		p := r.Pass()
		if n := testing.AllocsPerRun(20, func() {
			if p.Text(text) != text {
				t.Error("changed")
			}
		}); n > 1 { // the Pass for the strings of JSON
			t.Errorf("%v allocations for %.40q", n, text)
		}
	}
}

// Texts at which an eager search would look again and again end in time all the same.
func TestTextsMadeToTakeLong(t *testing.T) {
	for _, piece := range []string{
		"sk-", "eyJ", "eyJhbGciOiJFZERT.", "password=", `password="`, "token: ", "a:", "://", "postgres://", "u:p@", "AKIAQ4ZJ7XKDM2WPL5RB ", "-----BEGIN " + "PRIVATE KEY-----",
		"-----BEGIN " + "PRIVATE KEY-----1 ", "-p", " -pmysql", " -u curl", "Bearer ", "{", `{"`, `["`, "[{\n", `\"`, `\\`, "=", "api_key", "SG.aaaaaaaaaaaaaaaaaaaa.", "[redacted:", "ya29.c.",
	} {
		once := (&Redactor{}).Pass().Text(strings.Repeat(piece, (64<<10)/len(piece)))
		if twice := (&Redactor{}).Pass().Text(once); twice != once {
			t.Errorf("many of %q: what was redacted is redacted again", piece)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, row := range planted() {
		f.Add(row.text)
		f.Add(jsonOf(row.text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := &Redactor{}
		p := r.Pass()
		once := p.Text(text)
		if p.Found == nil && once != text {
			t.Fatalf("%q was changed, and nothing was counted", text)
		}
		if twice := r.Pass().Text(once); twice != once {
			t.Fatalf("%q\nbecomes %q\nand then %q", text, once, twice)
		}
		if json.Valid([]byte(text)) && !json.Valid([]byte(once)) {
			t.Fatalf("%q is no JSON any more: %q", text, once)
		}
	})
}
