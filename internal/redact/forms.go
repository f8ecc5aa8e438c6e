package redact

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

const (
	bearerToken   Kind = "bearer-token"
	basicAuth     Kind = "basic-auth"
	jwt           Kind = "jwt"
	awsKeyID      Kind = "aws-key-id"
	telegramToken Kind = "telegram-token"
)

// form is how the secrets of a provider begin, and what follows.
type form struct {
	prefix string
	kind   Kind
	// rest returns how long that is which follows the prefix, and begins s; negative: it is
	// no such secret.
	rest func(s string) int
}

// forms are those that a word begins with. Lengths are a little more generous than what the
// providers make today: nothing else begins so. A checksum, as GitHub's tokens have, is not
// looked at: it would only let a token through that was mistyped or cut off.
var forms = []form{
	{"AKIA", awsKeyID, exactly(upperNum, 16)},
	{"ASIA", awsKeyID, exactly(upperNum, 16)},
	{"ABIA", awsKeyID, exactly(upperNum, 16)},
	{"ACCA", awsKeyID, exactly(upperNum, 16)},
	{"ABSK", "aws-bedrock-key", atLeast(chars(letters+digits+"+/="), 100)},
	{"ghp_", "github-token", atLeast(alnum, 20)},
	{"gho_", "github-token", atLeast(alnum, 20)},
	{"ghu_", "github-token", atLeast(alnum, 20)},
	{"ghs_", "github-token", atLeast(alnum, 20)},
	{"ghr_", "github-token", atLeast(alnum, 20)},
	{"github_pat_", "github-token", atLeast(word, 22)},
	{"glpat-", "gitlab-token", dotted(wordDash, 16)},
	{"glptt-", "gitlab-token", atLeast(wordDash, 20)},
	{"gldt-", "gitlab-token", atLeast(wordDash, 16)},
	{"glrt-", "gitlab-token", dotted(wordDash, 16)},
	{"glcbt-", "gitlab-token", atLeast(wordDash, 20)},
	{"gloas-", "gitlab-token", atLeast(wordDash, 40)},
	{"glsoat-", "gitlab-token", atLeast(wordDash, 16)},
	{"glagent-", "gitlab-token", atLeast(wordDash, 40)},
	{"xoxb-", "slack-token", random(wordDash, 16)},
	{"xoxp-", "slack-token", random(wordDash, 16)},
	{"xoxa-", "slack-token", random(wordDash, 16)},
	{"xoxr-", "slack-token", random(wordDash, 16)},
	{"xoxs-", "slack-token", random(wordDash, 16)},
	{"xoxo-", "slack-token", random(wordDash, 16)},
	{"xoxe-", "slack-token", random(wordDash, 16)},
	{"xoxe.xox", "slack-token", random(wordDash, 16)},
	{"xoxc-", "slack-token", random(wordDash, 16)},
	{"xoxd-", "slack-token", random(chars(letters+digits+"%+/="), 16)},
	{"xapp-", "slack-token", random(wordDash, 16)},
	{"sk_live_", "stripe-key", atLeast(alnum, 16)},
	{"sk_test_", "stripe-key", atLeast(alnum, 16)},
	{"rk_live_", "stripe-key", atLeast(alnum, 16)},
	{"rk_test_", "stripe-key", atLeast(alnum, 16)},
	{"whsec_", "stripe-key", atLeast(chars(letters+digits+"+/="), 24)},
	{"sk-ant-", "anthropic-key", random(wordDash, 16)},
	{"sk-proj-", "openai-key", random(wordDash, 20)},
	{"sk-svcacct-", "openai-key", random(wordDash, 20)},
	{"sk-admin-", "openai-key", random(wordDash, 20)},
	{"sk-or-v1-", "openrouter-key", atLeast(hexDigits, 32)},
	{"sk-", "openai-key", oneRandom(20)},
	{"AIza", "google-key", within(wordDash, 30, 45)},
	{"ya29.", "google-token", random(chars(letters+digits+"_-"), 20)},
	{"ya29.c.", "google-token", random(chars(letters+digits+"_-"), 20)},
	{"GOCSPX-", "google-client-secret", atLeast(wordDash, 20)},
	{"epi_", "episodic-token", exactly(upperNum, 26)}, // of internal/access
	{"npm_", "npm-token", random(alnum, 30)},
	{"pypi-AgE", "pypi-token", atLeast(wordDash, 30)},
	{"hf_", "huggingface-token", mixedCase(alnum, 30)},
	{"api_org_", "huggingface-token", mixedCase(alnum, 30)},
	{"SG.", "sendgrid-key", segments(wordDash, 16, 20)},
	{"SK", "twilio-key", exactly(hexDigits, 32)},
	{"key-", "mailgun-key", exactly(hexDigits, 32)},
	{"dop_v1_", "digitalocean-token", atLeast(hexDigits, 40)},
	{"doo_v1_", "digitalocean-token", atLeast(hexDigits, 40)},
	{"dor_v1_", "digitalocean-token", atLeast(hexDigits, 40)},
	{"shpat_", "shopify-token", atLeast(alnum, 32)},
	{"shpca_", "shopify-token", atLeast(alnum, 32)},
	{"shppa_", "shopify-token", atLeast(alnum, 32)},
	{"shpss_", "shopify-token", atLeast(alnum, 32)},
	{"lin_api_", "linear-key", atLeast(alnum, 30)},
	{"ntn_", "notion-token", random(alnum, 40)},
	{"secret_", "notion-token", mixedCase(alnum, 40)},
	{"dapi", "databricks-token", atLeast(hexDigits, 32)},
	{"pplx-", "perplexity-key", atLeast(alnum, 40)},
	{"gsk_", "groq-key", atLeast(alnum, 40)},
	{"xai-", "xai-key", random(alnum, 60)},
	{"r8_", "replicate-token", random(alnum, 32)},
	{"hvs.", "vault-token", random(wordDash, 20)},
	{"hvb.", "vault-token", random(wordDash, 20)},
	{"glsa_", "grafana-token", atLeast(word, 36)},
	{"glc_", "grafana-token", atLeast(chars(letters+digits+"+/="), 32)},
	{"pul-", "pulumi-token", exactly(hexDigits, 40)},
	{"dp.pt.", "doppler-token", atLeast(alnum, 40)},
	{"dp.st.", "doppler-token", dotted(wordDash, 16)},
	{"rubygems_", "rubygems-key", atLeast(hexDigits, 40)},
	{"sq0atp-", "square-token", atLeast(wordDash, 20)},
	{"sq0csp-", "square-token", atLeast(wordDash, 40)},
	{"EAAA", "square-token", exactly(wordDash, 60)},
	{"sntrys_", "sentry-token", atLeast(chars(letters+digits+"+/=_"), 60)},
	{"sntryu_", "sentry-token", atLeast(hexDigits, 40)},
	{"NRAK-", "newrelic-key", atLeast(upperNum, 27)},
	{"PMAK-", "postman-key", atLeast(wordDash, 40)},
	{"pscale_tkn_", "planetscale-token", atLeast(chars(letters+digits+"_.-"), 32)},
	{"pscale_pw_", "planetscale-token", atLeast(chars(letters+digits+"_.-"), 32)},
	{"sbp_", "supabase-token", exactly(hexDigits, 40)},
	{"sb_secret_", "supabase-token", atLeast(wordDash, 20)},
	{"tskey-", "tailscale-key", random(wordDash, 20)},
	{"ATATT3", "atlassian-token", atLeast(chars(letters+digits+"_-="), 100)},
	{"AGE-SECRET-KEY-1", "age-key", atLeast(upperNum, 50)},
	{"ops_eyJ", "1password-token", atLeast(base64Set, 100)},
	{"fo1_", "fly-token", atLeast(wordDash, 40)},
	{"fm2_", "fly-token", atLeast(base64Set, 100)},
	{"eyJ", jwt, jwtRest},
	{"Bearer ", bearerToken, bearerRest},
	{"bearer ", bearerToken, bearerRest},
	{"BEARER ", bearerToken, bearerRest},
	{"Basic ", basicAuth, basicRest},
	{"basic ", basicAuth, basicRest},
	// The first part of a bot's token of Discord is a number in base64.
	{"MD", "discord-token", discordRest}, {"MT", "discord-token", discordRest}, {"Mj", "discord-token", discordRest}, {"Mz", "discord-token", discordRest},
	{"ND", "discord-token", discordRest}, {"NT", "discord-token", discordRest}, {"Nj", "discord-token", discordRest}, {"Nz", "discord-token", discordRest},
	{"OD", "discord-token", discordRest}, {"OT", "discord-token", discordRest},
}

var base64Set = chars(letters + digits + "+/=_-")

// real reports whether what follows a prefix can be one of a provider's, and does not just
// show where it would be.
func real(body string) bool {
	return traitsOf(body).different >= 3 && !strings.Contains(body, "xxxx") && !strings.Contains(body, "XXXX")
}

// within is a run of such characters, as long as that.
func within(set *charset, least, most int) func(string) int {
	return func(s string) int {
		n := set.run(s[:min(len(s), most+1)])
		if n < least || n > most || !real(s[:n]) {
			return -1
		}
		return n
	}
}

// maxToken bounds the length of a form's secret, in bytes.
const maxToken = 8 << 10

func atLeast(set *charset, least int) func(string) int { return within(set, least, maxToken) }

func exactly(set *charset, n int) func(string) int { return within(set, n, n) }

// random is a run in which there are letters and digits.
func random(set *charset, least int) func(string) int {
	run := atLeast(set, least)
	return func(s string) int {
		n := run(s)
		if n > 0 {
			if t := traitsOf(s[:n]); !t.digit || !t.letter() {
				return -1
			}
		}
		return n
	}
}

// mixedCase is a run in which there are small and capital letters, or letters and digits.
func mixedCase(set *charset, least int) func(string) int {
	run := atLeast(set, least)
	return func(s string) int {
		n := run(s)
		if n > 0 {
			if t := traitsOf(s[:n]); !t.letter() || !t.digit && !(t.lower && t.upper) {
				return -1
			}
		}
		return n
	}
}

// oneRandom is words with hyphens between them, of which one is so long and has letters and
// digits.
func oneRandom(least int) func(string) int {
	return func(s string) int {
		n := wordDash.run(s[:min(len(s), maxToken)])
		for from := 0; from < n; {
			k := alnum.run(s[from:n])
			if t := traitsOf(s[from : from+k]); k >= least && t.letter() && t.digit && t.different >= 8 {
				return n
			}
			from += k + 1
		}
		return -1
	}
}

// dotted is a run and what follows it after full stops.
func dotted(set *charset, least int) func(string) int {
	run := atLeast(set, least)
	return func(s string) int {
		n := run(s)
		for n > 0 && n+1 < len(s) && s[n] == '.' {
			k := alnum.run(s[n+1 : min(len(s), n+1+maxToken)])
			if k < 6 {
				break
			}
			n += 1 + k
		}
		return n
	}
}

// segments are two runs with a full stop between.
func segments(set *charset, first, second int) func(string) int {
	one, two := within(set, first, 64), within(set, second, 128)
	return func(s string) int {
		n := one(s)
		if n < 0 || n >= len(s) || s[n] != '.' {
			return -1
		}
		k := two(s[n+1:])
		if k < 0 {
			return -1
		}
		return n + 1 + k
	}
}

// jwtRest is what follows "eyJ": the rest of a header, and two parts more, the last of
// which may be missing or cut off. An encrypted one has five parts.
func jwtRest(s string) int {
	n := wordDash.run(s[:min(len(s), maxToken)])
	if n < 8 || n+4 > len(s) || s[n] != '.' {
		return -1
	}
	for part := 1; part < 5 && n < len(s) && s[n] == '.'; part++ {
		k := wordDash.run(s[n+1 : min(len(s), n+1+maxToken)])
		if part == 1 && k < 8 {
			return -1
		}
		if k == 0 {
			break
		}
		n += 1 + k
	}
	return n
}

func bearerRest(s string) int {
	n := token68.run(s[:min(len(s), maxToken)])
	for n > 0 && s[n-1] == '.' {
		n-- // which ends the sentence
	}
	if n < 12 || !tokenLike(s[:n], 12) || placeholder(s[:n]) {
		return -1
	}
	return n
}

func basicRest(s string) int {
	n := base64Chars.run(s[:min(len(s), maxValue)])
	if n < 8 {
		return -1
	}
	plain, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s[:n], "="))
	if err != nil || !utf8.Valid(plain) {
		return -1
	}
	_, password, found := strings.Cut(string(plain), ":")
	if !found || len(password) < 3 || placeholder(password) || trivial(password) || strings.ContainsFunc(string(plain), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return -1
	}
	return n
}

func discordRest(s string) int {
	n := segments(wordDash, 20, 5)(s)
	if n < 0 || n >= len(s) || s[n] != '.' {
		return -1
	}
	k := within(wordDash, 25, 48)(s[n+1:])
	if k < 0 {
		return -1
	}
	return n + 1 + k
}
