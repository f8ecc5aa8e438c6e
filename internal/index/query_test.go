package index

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/episodic-memory/episodic/internal/rank"
)

// show writes a query as one line: the tokens of a term are between brackets, those of a
// phrase between quotes, and a prefix ends with a star.
func show(q Query) string {
	var terms []string
	for _, t := range q.Terms {
		form := "(%s%s)"
		if t.Phrase {
			form = `"%s%s"`
		}
		star := ""
		if t.Prefix {
			star = "*"
		}
		terms = append(terms, fmt.Sprintf(form, strings.Join(t.Tokens, " "), star))
	}
	return strings.Join(terms, " ")
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"no word", " -*^:() \"\" 🚀", ""},
		{"words", "proxies strip headers", "(proxi) (strip) (header)"},
		{"stop words", "what did we do about the proxy", "(proxi)"},
		{"nothing but stop words", "to be or not to be", "(to) (be) (or) (not)"},
		{"repetitions", "Error errors ERROR cafe café", "(error) (cafe)"},
		{"operators", "foo AND bar OR baz* NOT ^qux col:val NEAR(a b) -x +y", "(foo) (bar) (baz) (qux) (col) (val) (near) (b) (x) (y)"},
		{"identifier", "findUserName", "(findusernam find user name)"},
		{"stop words in an identifier", "is_valid_now is_not", "(isvalidnow valid) (isnot)"},
		{"path", "src/http_server.go", "(src) (srchttpserver httpserver http server) (httpservergo go)"},
		{"version", "python 3.11.2", "(python) (3.11.2 3.11)"},
		{"hash", "a1b2c3d a94a8fe5 12345678", "(a1b2c3d*) (a94a8fe5*) (12345678*)"},
		{"UUID", "3f2a9c1b-77aa", "(3f2a9c1b77aa*)"},
		{"Han", "数据库", "(数据 据库)"},
		{"one ideograph", "手", "(手*)"},
		{"one Thai letter with a mark", "ที่", "(ที่*)"},
		{"script borders", "Go言語", "(go) (言語)"},

		{"phrase", `"connection reset" by`, `"connect reset"`},
		{"phrases and words", `say "to be" loudly "or not"`, `(sai) "to be" (loudli) "or not"`},
		{"one word in quotes", `"the"`, "(the)"},
		{"identifier in quotes", `"getUserName"`, `"getusernam get user name"`},
		{"typographic quotes", "“a b” „c d“ „e f” «g h» »i j« 「食べ物」『x y』", `"a b" "c d" "e f" "g h" "i j" "食べ べ物 物*" "x y"`},
		{"full-width quotes", "＂a b＂", `"a b"`},
		{"repeated phrase", `"foo bar" "Foo bars" foo`, `"foo bar" (foo)`},
		{"unpaired quote", `"foo bar`, "(foo) (bar)"},
		{"inches", `5" long and 6" wide`, "(5) (long) (6) (wide)"},
		{"quote before a letter", `"foo"bar baz"`, `"foo bar baz"`},
		{"quotes in two lines", "foo \"bar\nbaz\" qux", "(foo) (bar) (baz) (qux)"},
		{"wrong pair", "“foo» bar", "(foo) (bar)"},
		{"empty quotes", `"" "  " foo`, "(foo)"},
		{"invalid UTF-8 and NUL", "foo\xff\"\x00bar\xe4 baz\"", `(foo) "bar baz"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := show(Parse(c.text)); got != c.want {
				t.Errorf("query of %q:\n got %s\nwant %s", c.text, got, c.want)
			}
		})
	}
}

func TestParseWord(t *testing.T) {
	var got []string
	for _, term := range Parse(`Kim ÉLAN get_UserName "New  York" ＡＢＣ gpt-4.1`).Terms {
		got = append(got, term.Word)
	}
	if want := []string{"kim", "élan", "get_username", "new  york", "abc", "gpt", "4.1"}; !slices.Equal(got, want) {
		t.Errorf("words %q, want %q", got, want)
	}
}

// A query is cut to what costs and tells as much as 24 words.
func TestParseCut(t *testing.T) {
	words := make([]string, 40_000)
	for i := range words {
		words[i] = fmt.Sprintf("word%dx", i+100)
	}
	han := make([]rune, 10_000)
	for i := range han {
		han[i] = '一' + rune(i)
	}
	for _, c := range []struct {
		name, text    string
		terms, tokens int
	}{
		{"words", strings.Join(words, " the "), 24, 72},
		{"one identifier", strings.Join(words, "_"), 24, 24},
		{"stop words", strings.Repeat("the of and ", 40_000), 3, 3},
		{"Han", string(han), 1, 48},
		{"phrase", `"` + strings.Join(words[:100], " ") + `"`, 1, 72},
		{"phrase of Han", "「" + string(han) + "」", 1, 48},
	} {
		q := Parse(c.text)
		tokens := 0
		for _, t := range q.Terms {
			tokens += len(t.Tokens)
		}
		if len(q.Terms) != c.terms || tokens != c.tokens {
			t.Errorf("%s: %d terms with %d tokens, want %d with %d", c.name, len(q.Terms), tokens, c.terms, c.tokens)
		}
	}
	if first := Parse(strings.Join(words, " ")).Terms[0].Word; first != "word100x" {
		t.Errorf("the first term is %q", first)
	}
}

// Each text must be found by each query.
func TestFinds(t *testing.T) {
	for _, c := range []struct{ text, queries string }{
		{"call getShippingMethodIdFromCheckout twice", "shipping method|checkout|getShippingMethodIdFromCheckout|get_shipping_method_id_from_checkout|getshippingmethodidfromcheckout"},
		{"retry XMLHttpRequest through HTTPServer2", "request|xml|server|xml_http_request|HTTPServer2|httpserver2"},
		{"refactor atomic_write_json", "atomic|atomicWriteJSON|writes|atomic-write-json"},
		{"JSONDecodeError: Expecting value: line 1 column 1 (char 0)", "JSONDecodeError|json error|expecting value|\"Expecting value\""},
		{"in /work/src/http_server/parse.go:12", "src/http_server/parse.go|http_server/parse.go|parse.go|\"http_server/parse.go\"|http.server|src"},
		{"ticket OPS-4711", "OPS-4711|ops 4711|4711|ops_4711"},
		{"commit a94a8fe5ccb19ba61c4c0873d391e987982fbbd3", "a94a8fe5|a94a8fe|A94A8FE5CCB1"},
		{"id 3f2a9c1b-77aa-4bbb-8ccc-1234567890ab", "3f2a9c1b|3F2A9C1B-77AA|3f2a9c1b-77aa-4bbb-8ccc-1234567890ab|3f2a9c1b77aa4bbb8ccc1234567890ab"},
		{"upgraded to v1.61.1", "1.61|1.61.1|v1.61.1|v1.61"},
		{"on 2026-11-27T10:00:00Z", "2026-11-27|2026-11|2026"},
		{"\u1112\u1161\u11ab\u1100\u1173\u11af \u1111\u1161\u110b\u1175\u11af", "한글|한|파일|글"},
		{"カ\u3099イト\u3099フ\u3099ック", "ガイド|ブック|ガ"},
		{"и\u0306од", "йод|ЙОД"},
		{"ＡＰＩ ｋｅｙ", "API|key"},
		{"ｻｰﾊﾞｰ", "サーバー|サーバ|ー"},
		{"κόσμος", "ΚΟΣΜΟΣ|κοσμος"},
		{"cafe\u0301", "café|cafe|CAFÉ"},
		{"拿手机打电话", "手机|手|话|电话|\"手机打电话\""},
		{"iPhone手机", "iphone|手机|iPhone手机"},
		{"ภาษาไทย", "ไทย|ภาษา|ย"},
	} {
		for query := range strings.SplitSeq(c.queries, "|") {
			q := Parse(query)
			found := make(map[int]bool)
			for _, s := range q.Matches(c.text) {
				found[s.Term] = true
			}
			if len(q.Terms) == 0 || len(found) != len(q.Terms) {
				t.Errorf("%q finds %d terms of %s in %q", query, len(found), show(q), c.text)
			}
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct{ name, query, text, want string }{
		{"none", "foo", "bar", ""},
		{"word", "headers", "The Header, headers.", "Header/0 headers/0"},
		{"part", "user name", "getUserName get_user", "User/0 Name/1 user/0"},
		{"whole", "get_user_name", "getUserName Usernames", "getUserName/0"},
		{"both", "user getUserName", "getUserNames", "getUserNames/1 User/0"},
		{"phrase", `"reset by peer"`, "reset by a peer, reset by peers", "reset by peers/0"},
		{"phrase begun twice", `"no no yes"`, "no no no yes", "no no yes/0"},
		{"phrase in an identifier", `"user name"`, "the get_user_name call", "user_name/0"},
		{"pairs", "数据库", "大数据库，据库", "数据库/0 据库/0"},
		{"phrase of pairs", `"据库"`, "数据库连 据 库", "据库连/0"},
		{"ideograph", "手", "手 拿手机", "手/0 手机/0"},
		{"normalized", "サーバー api", "ｻｰﾊﾞｰ の ＡＰＩ", "ｻｰﾊﾞｰ/0 ＡＰＩ/1"},
		{"accents", "cafe", "un cafe\u0301.", "cafe\u0301/0"},
		{"ligature", "file", "a ﬁle", "ﬁle/0"},
		{"hash", "3f2a9c1b", "id 3F2A9C1B-77aa-4bbb-8ccc-1234567890ab.", "3F2A9C1B-77aa-4bbb-8ccc-1234567890ab/0"},
		{"version", "1.61", "v1.61.1", "1.61/0"},
		{"invalid UTF-8", "foo", "\xff\xfefoo\xff", "foo/0"},
	} {
		q := Parse(c.query)
		var got []string
		for _, s := range q.Matches(c.text) {
			got = append(got, fmt.Sprintf("%s/%d", c.text[s.From:s.To], s.Term))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`how do I getUserName "reset by peer" a1b2c3d4`, "“数据库” 手 iPhone手机", "to be or not", "3f2a9c1b-77 2026-11 3.11.2 v1",
		"\xff\"\x00 a\"", `5" and "a`, "«ﬁ™» „é“", "\"手\"", "is_a", "가\u11a8 ที่",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q := Parse(text)
		if len(q.Terms) > maxWords {
			t.Fatalf("%d terms of %q", len(q.Terms), text)
		}
		all := strings.Fields(string(AppendTokens(nil, text)))
		if (len(all) > 0) != (len(q.Terms) > 0) {
			t.Fatalf("%d tokens and %d terms of %q", len(all), len(q.Terms), text)
		}
		for _, term := range q.Terms {
			if len(term.Tokens) == 0 || term.Phrase && len(term.Tokens) == 1 {
				t.Fatalf("term %+v of %q", term, text)
			}
			for _, token := range term.Tokens {
				if !slices.Contains(all, token) {
					t.Fatalf("%q of term %+v is no token of %q: %q", token, term, text, all)
				}
			}
		}
		spans := q.Matches(text)
		found := make([]int, len(q.Terms)) // up to where
		from := 0
		for _, s := range spans {
			if s.From < from || s.To <= s.From || s.To > len(text) || s.From < found[s.Term] {
				t.Fatalf("spans %v of %q", spans, text)
			}
			from = s.From
			found[s.Term] = s.To
		}
		if i := slices.Index(found, 0); i >= 0 {
			t.Fatalf("%q does not find itself: term %+v", text, q.Terms[i])
		}
	})
}

// A word that may match is told by how its token begins.
func TestWordsBeginAsTheirTokens(t *testing.T) {
	check := func(t interface{ Fatalf(string, ...any) }, text string) {
		s := newScanner(text)
		defer s.release()
		for s.scan() {
			for _, p := range s.pieces {
				var b begins
				word := s.folded[p.lo:p.hi]
				token := s.token(p)
				for n := 1; n <= len(token); n++ { // a term may be the beginning of a token
					b = begins{}
					b.add(token[:n])
					if !b.mayMatch(word) {
						t.Fatalf("%q is not thought to match %q of %q", word, token[:n], token)
					}
				}
			}
		}
	}
	for _, text := range []string{"ies", "ties sky skies by happy dying", "s y e", "x.y 3.11.2 2026-11-27 é 数据库"} {
		check(t, text)
	}
	rapid.Check(t, func(t *rapid.T) {
		check(t, rapid.OneOf(rapid.StringMatching(`[a-z]{1,14}`), rapid.String()).Draw(t, "text"))
	})
}

func TestCommonWordsAreLeftOutAmongMany(t *testing.T) {
	corpus := &rank.Corpus{Parts: []*rank.Part{{Places: make([]int64, 100_000)}}}
	m := &Matches{Corpus: corpus, terms: map[string][]found{"common": {{n: 10_001}}, "tenth": {{n: 10_000}}, "rare": {{n: 1}}}}
	for _, c := range []struct {
		name, texts, want string
		documents         int
	}{
		{"few words", "common a b c d e f g", "common a b c d e f g", 100_000},
		{"enough others", "common a b c d e f g h", "a b c d e f g h", 100_000},
		{"one is nowhere", "common a b c d e f g nowhere", "common a b c d e f g nowhere", 100_000},
		{"rare ones find too little", "common rare rare rare rare rare rare rare rare", "common rare rare rare rare rare rare rare rare", 100_000},
		{"a tenth", "a b c d e f g h tenth", "a b c d e f g h tenth", 100_000},
		{"few documents", "a b c d e f g h i few", "a b c d e f g h i few", 6000},
	} {
		corpus.Parts[0].Places = make([]int64, c.documents)
		for _, term := range strings.Fields("a b c d e f g h i") {
			m.terms[term] = []found{{n: 125}}
		}
		m.terms["few"] = []found{{n: commonFrom}}
		texts := strings.Fields(c.texts)
		got, words := m.withoutCommon(texts, texts)
		if strings.Join(got, " ") != c.want || !slices.Equal(got, words) {
			t.Errorf("%s: %v with words %v, want %s", c.name, got, words, c.want)
		}
	}
}
