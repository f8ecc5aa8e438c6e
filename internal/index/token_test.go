package index

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/episodic-memory/episodic/internal/testkit"
)

func tokens(text string) string {
	return strings.TrimSuffix(string(AppendTokens(nil, text)), " ")
}

func TestTokens(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"no word", " \t\n.-_/\"'()*^:,; ", ""},
		{"prose", "The proxies are stripping headers, twice.", "the proxi ar strip header twice"},
		{"repetition", "no no NO", "no no no"},
		{"one letter", "plan B", "plan b"},
		{"apostrophes", "don't, the user’s", "don t the user s"},
		{"hyphen at an end", "pre- and post-war -x", "pre and postwar post war x"},

		{"camel case", "getUserName", "getusernam get user name"},
		{"snake case", "get_user_name", "getusernam get user name"},
		{"kebab case", "get-user-name", "getusernam get user name"},
		{"pascal case", "GetUserNames", "getusernam get user name"},
		{"large snake case", "GET_USER_NAME", "getusernam get user name"},
		{"lower case", "getusername", "getusernam"},
		{"mixed", "my_GetUser-name", "mygetusernam my get user name"},
		{"dunder", "pkg/__init__.py self._name __x__.__y__", "pkg pkginit init initpi py self selfnam name x xy y"},
		{"acronym", "XMLHttpRequest", "xmlhttprequest xml http request"},
		{"acronym at the end", "parseJSON", "parsejson pars json"},
		{"plural acronyms", "userIDs URLs APIsOnly", "userid user id url apisonli api onli"},
		{"digit", "HTTPServer2", "httpserver2 http server"},
		{"digits within", "utf8_to_utf16 base64Decode", "utf8toutf16 utf to utf 16 base64decode base 64 decod"},
		{"error codes", "E1042, ERR_CONN_RESET OPS-4711 TS2345", "e1042 1042 errconnreset err conn reset ops4711 op 4711 ts2345 ts 2345"},
		{"parts of one letter", "a_b x_train i-1 e-mail iPhone", "ab xtrain train i1 email mail iphon phone"},
		{"well-known words", "a well-known state-of-the-art", "a wellknown well known stateoftheart state of the art"},
		{"non-breaking hyphen", "well\u2011known", "wellknown well known"},
		{"letters beyond ASCII", "größeÄndern", "grosseandern gross andern"},
		{"Cyrillic camel case", "получитьИмя", "получитьимя получить имя"},

		{"path", "/work/src/http_server/XMLParser.go:42", "work worksrc src srchttpserver httpserver http server httpserverxmlpars xmlparser xml parser xmlparsergo go 42"},
		{"prose", "and/or, e.g. this. That", "and andor or e eg g thi that"},
		{"no path", "a//b c/ d 1/x x/1 é.ö", "a b c d 1 x x 1 e eo o"},
		{"names too long for a pair", strings.Repeat("a", 40) + "/" + strings.Repeat("b", 40), strings.Repeat("a", 40) + " " + strings.Repeat("b", 40)},
		{"windows path", `C:\Users\me\notes.txt`, "c user usersm me menot note notestxt txt"},
		{"dotted name", "astropy.modeling.separable", "astropi astropymodel model modelingsepar separ"},
		{"URL", "https://example.com/a?q=1&r=x_y", "http exampl examplecom com coma a q 1 r xy"},
		{"mail address", "jane.doe@example.com", "jane janedo doe exampl examplecom com"},
		{"generics", "map[string][]int Foo<Bar>::baz", "map string int foo bar baz"},
		{"flags", "--no-verify -rf", "noverifi no verifi rf"},

		{"version", "3.11.2", "3.11.2 3.11"},
		{"version with v", "v1.61.1 v2 v-1.5", "1.61.1 1.61 v2 1.5"},
		{"version with name", "python3.11 go1.26.8 numpy-1.26.4 libfoo-v1.2", "python 3.11 go 1.26.8 1.26 numpi 1.26.4 1.26 libfoo 1.2"},
		{"version with letters", "1.26rc1 2.0-beta.1", "1.26 rc1 rc 2.0 beta 1"},
		{"decimal", "0.05 of 42.5%", "0.05 of 42.5 42"},
		{"address", "192.168.0.1:8080", "192.168.0.1 192 192.168 192.168.0 8080"},
		{"end of sentence", "in 2024. Then 3.", "in 2024 then 3"},
		{"grouped digits", "1_000_000 1,000", "1000000 000 000 1 000"},
		{"range", "10-20", "10 20"},
		{"date", "2026-11-27 2026-11 2026-13", "20261127 2026 202611 202611 2026 2026 13"},
		{"date and time", "2026-11-27T10:20:30.123Z", "20261127 2026 202611 10 20 30.123 30 z"},
		{"date in a name", "backup_2026-11-27.tar", "backup 20261127 2026 202611 tar"},
		{"units", "100ms 5kB", "100ms 100 ms 5kb"},

		{"hexadecimal", "0xDEADBEEF 0x80070005 0x1f 0xzz", "deadbeef 80070005 1f 0xzz xzz"},
		{"hash", "a1b2c3d a94a8fe5ccb19ba61c4c0873d391e987982fbbd3", "a1b2c3d a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"},
		{"UUID", "3F2A9C1B-77aa-4bbb-8ccc-1234567890ab", "3f2a9c1b77aa4bbb8ccc1234567890ab"},
		{"UUID in a name", "user-3f2a9c1b-77aa-4bbb-8ccc-1234567890ab.log", "user 3f2a9c1b77aa4bbb8ccc1234567890ab log"},
		{"words of hexadecimal letters", "added_facades deadbeef", "addedfacad ad facad deadbeef"},
		{"beginning of a UUID", "3f2a9c1b-77aa-4b", "3f2a9c1b77aa4b"},
		{"key", "sk-16C7e42F292c6912E7710c83", "sk16c7e42f292c6912e7710c83 sk 16c7e42f292c6912e7710c83"},

		{"Han", "数据库", "数据 据库 库"},
		{"one ideograph", "手", "手"},
		{"punctuation of Han", "连接失败，请重试。", "连接 接失 失败 败 请重 重试 试"},
		{"beyond the first plane", "𠮷野家", "𠮷野 野家 家"},
		{"script borders", "iPhone手机 Go言語 第3章", "iphon phone 手机 机 go 言語 語 第 3 章"},
		{"Han and kana", "食べる", "食べ べる る"},
		{"prolonged sound mark", "サーバー", "サー ーバ バー ー"},
		{"iteration marks", "人々 いすゞ", "人々 々 いす すゞ ゞ"},
		{"half-width kana", "ｻｰﾊﾞｰ", "サー ーバ バー ー"},
		{"decomposed kana", "カ\u3099イト\u3099", "ガイ イド ド"},
		{"katakana middle dot", "データ・ベース", "デー ータ タ ベー ース ス"},
		{"Hangul", "한글 파일", "한글 글 파일 일"},
		{"decomposed Hangul", "\u1112\u1161\u11ab\u1100\u1173\u11af", "한글 글"},
		{"Thai", "ที่นี่", "ที่นี่ นี่"},
		{"Lao", "ພາສາ", "ພາ າສ ສາ າ"},
		{"Khmer", "ភាសា", "ភាសា សា"},
		{"Burmese", "မြန်မာ", "မြန် န်မာ မာ"},
		{"Tibetan is no such script", "བོད་སྐད", "བོད སྐད"},

		{"accents", "café cafe\u0301 CAFÉ naïve", "cafe cafe cafe naiv"},
		{"Vietnamese", "Việt Viê\u0323t", "viet viet"},
		{"strokes", "ŁÓDŹ smørrebrød Đà", "lodz smorrebrod da"},
		{"dotless i", "ısı İSTANBUL", "isi istanbul"},
		{"sharp s", "Straße STRASSE", "strass strass"},
		{"ligature", "ﬁle", "file"},
		{"full width", "ＡＰＩ　ｋｅｙ＿ｎａｍｅ", "api keynam kei name"},
		{"Greek", "Κόσμος ΚΟΣΜΟΣ", "κοσμοσ κοσμοσ"},
		{"Cyrillic", "ЙОД и\u0306од", "йод йод"},
		{"yo", "ёлка Елка", "елка елка"},
		{"Ukrainian", "їжак", "їжак"},
		{"stress mark", "за\u0301мок", "замок"},
		{"Devanagari", "हिन्दी भाषा", "हिन्दी भाषा"},
		{"Hebrew points", "שָׁלוֹם", "שלום"},
		{"Arabic vowels", "سَلَام ســلام", "سلام سلام"},
		{"Armenian", "Երևան", "երեւան"},

		{"emoji", "🚀launch 👩‍💻 done✅", "launch done"},
		{"keycap", "1️⃣", "1"},
		{"symbols of letters", "Foo™ 5½ №7 30℃", "foo tm 5 1 2 no 7 30 c"},
		{"words of one symbol in a path", "a.ﷺ.b", "a aصلى صلى الله عليه وسلم وسلمb b"},
		{"superscript", "x² H₂O", "x2 h2o"},
		{"soft hyphen, joiners", "exam\u00adple na\u200dme \ufeffbom", "exampl name bom"},
		{"zero-width space", "foo\u200bbar", "foo bar"},
		{"no-break space", "foo\u00a0bar", "foo bar"},
		{"mark without a letter", "\u0301abc \u093fabc", "abc abc"},
		{"NUL", "a\x00b", "a b"},
		{"invalid UTF-8", "foo\xffbar \xe4\xb8 caf\xc3", "foo bar caf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := tokens(c.text); got != c.want {
				t.Errorf("tokens of %q:\n got %s\nwant %s", c.text, got, c.want)
			}
		})
	}
}

func TestLongWords(t *testing.T) {
	long := strings.Repeat("a", 100)
	for _, c := range []struct{ name, text, want string }{
		{"cut", long, long[:64]},
		{"cut between letters", "x" + strings.Repeat("é", 10) + strings.Repeat("ж", 50), "x" + strings.Repeat("e", 10) + strings.Repeat("ж", 26)},
		{"cut before stemming", long + "ing", long[:64]},
		{"megabytes", strings.Repeat("7", 1<<20), strings.TrimSuffix(strings.Repeat(strings.Repeat("7", 64)+" ", 256), " ")},
		{"parts without a whole", strings.Repeat("user_name_", 8) + "end", strings.Repeat("user name ", 8) + "end"},
		{"base64", "head MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7MhgHcTz6sE2I2yPBaFDrBz9vFqU4 tail", "head tail"},
		{"a path is no base64", "/usr/local/lib/python/site-packages/astropy/modeling/core/fitting/tests", "usr usrloc local locallib lib libpython python pythonsitepackag sitepackag site packag " +
			"sitepackagesastropi astropi astropymodel model modelingcor core corefit fit fittingtest test"},
	} {
		if got := tokens(c.text); got != c.want {
			t.Errorf("%s: got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// Inputs on which looking ahead, or looking back, could cost the square of their
// length. At long effort that would be minutes.
func TestLinear(t *testing.T) {
	n := testkit.Effort(5_000, 20_000, 1_000_000)
	for _, pattern := range []string{
		"a", "A", "aB", "a_", "a-", "a/", "a.", "1.", "1", "1-", "0x", "aB1/", "aB1+_", "v-", "é", "é_", "数", "数，", "数\u3099", "\u0301", "e\u0301",
		`"`, `"a`, ` "a`, `" `, "“", "“a", "«", "「数", "\"a\n", "\xff", "\x00", "ﷺ", "™", "12345678-", "2026-11-27", "2026-11-", "3f2a9c1b-",
	} {
		text := strings.Repeat(pattern, n/len(pattern))
		start := time.Now()
		AppendTokens(nil, text)
		q := Parse(text)
		q.Matches(text)
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("%d bytes of %q took %v", n, pattern, d)
		}
	}
}

// The short cut for plain words must find what the long way finds.
func generalTokens(text string) []byte {
	s := newScanner(text)
	defer s.release()
	var dst []byte
	for {
		for s.next < len(s.chars) {
			if s.cut() {
				s.join()
				for _, p := range s.pieces {
					dst = append(s.appendToken(dst, p), ' ')
				}
			}
		}
		if s.at == len(text) {
			return dst
		}
		if c := text[s.at]; c < utf8.RuneSelf && !ascii[c].isWord() {
			s.at++
			continue
		}
		s.load()
	}
}

func FuzzTokens(f *testing.F) {
	for _, s := range []string{
		"getUserName get_user_name XMLHttpRequest HTTPServer2 userIDs", "3.11.2 v1.2 2026-11-27T10:00:00Z 10-20 0x1f",
		"3f2a9c1b-77aa-4bbb-8ccc-1234567890ab", "iPhone手机 サーバー ｻｰﾊﾞｰ カ\u3099 한글 ที่นี่", "cafe\u0301 и\u0306 ΚΌΣΜΟΣ ß İ ﬁ ™ ½",
		"\xff\x00\u200b\u00ad", "a_é-b", "ﷺ.a", "가\u11a8", "\u0345α", "ᾳ", "v1.v2.3", "٣٫٥",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := AppendTokens([]byte("head "), text)
		got, ok := bytes.CutPrefix(got, []byte("head "))
		if !ok {
			t.Fatal("what was there is changed")
		}
		for token := range strings.SplitAfterSeq(string(got), " ") {
			if token == "" {
				continue
			}
			token, ok := strings.CutSuffix(token, " ")
			if !ok || token == "" || len(token) > maxToken || !utf8.ValidString(token) {
				t.Fatalf("token %q of %q", token, text)
			}
			for _, r := range token {
				if r >= utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r)) ||
					'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' {
					continue
				}
				t.Fatalf("token %q of %q holds %U", token, text, r)
			}
		}
		if len(text) < blobLength {
			if general := generalTokens(text); !bytes.Equal(got, general) {
				t.Fatalf("the short cut makes of %q\n%s, the long way\n%s", text, got, general)
			}
		}
		// A line has the same tokens wherever it stands.
		if both := AppendTokens(nil, text+"\n"+text); !bytes.Equal(both, slices.Concat(got, got)) {
			t.Fatalf("%q twice: %s, once: %s", text, both, got)
		}
	})
}
