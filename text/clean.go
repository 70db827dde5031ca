package text

import (
	"html"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Clean is a text as CLIP's tokenizer wants it: straight quotes, no ligatures, full-width letters or control characters,
// Unicode's composed form, HTML entities resolved, twice, single spaces. This is what OpenAI's code does with ftfy, but for
// ftfy's guess at text that was decoded in a wrong encoding, which stays as it is.
func Clean(s string) string {
	if !strings.Contains(s, "<") {
		s = html.UnescapeString(s)
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == 0x2bc || 0x2018 <= r && r <= 0x201b:
			b.WriteByte('\'')
		case 0x201c <= r && r <= 0x201f:
			b.WriteByte('"')
		case r == 0x3000:
			b.WriteByte(' ')
		case 0xff01 <= r && r <= 0xffef:
			b.WriteString(norm.NFKC.String(string(r)))
		case r == 0x2028 || r == 0x2029 || r == 0x85:
			b.WriteByte('\n')
		case unseen(r):
		default:
			if to, ok := ligatures[r]; ok {
				b.WriteString(to)
			} else {
				b.WriteRune(r)
			}
		}
	}
	s = html.UnescapeString(html.UnescapeString(norm.NFC.String(b.String())))
	return strings.Join(strings.Fields(s), " ")
}

// ligatures are characters that stand for several.
var ligatures = map[rune]string{
	'Ĳ': "IJ", 'ĳ': "ij", 'ŉ': "'n", 'Ǳ': "DZ", 'ǲ': "Dz", 'ǳ': "dz", 'Ǆ': "DŽ", 'ǅ': "Dž", 'ǆ': "dž", 'Ǉ': "LJ", 'ǈ': "Lj", 'ǉ': "lj",
	'Ǌ': "NJ", 'ǋ': "Nj", 'ǌ': "nj", 'ﬀ': "ff", 'ﬁ': "fi", 'ﬂ': "fl", 'ﬃ': "ffi", 'ﬄ': "ffl", 'ﬅ': "ſt", 'ﬆ': "st",
}

// unseen tells the control characters that have no place in text.
func unseen(r rune) bool {
	switch {
	case r == '\t' || r == '\n' || r == '\f' || r == '\r':
		return false
	case r < 0x20 || r == 0x7f || 0x206a <= r && r <= 0x206f || r == 0xfeff || 0xfff9 <= r && r <= 0xfffc:
		return true
	}
	return false
}

// lower is Python's str.lower, which unlike Go's knows the sigma at the end of a word and keeps the dot of İ.
func lower(s string) string {
	if !strings.ContainsAny(s, "Σİ") {
		return strings.ToLower(s)
	}
	rs := []rune(s)
	var b strings.Builder
	for i, r := range rs {
		switch {
		case r == 'İ':
			b.WriteString("i̇")
		case r == 'Σ' && cased(rs, i, -1) && !cased(rs, i, 1):
			b.WriteRune('ς')
		default:
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// cased tells whether the next character from i on in a direction, marks and the like aside, is a letter with a case.
func cased(rs []rune, i, step int) bool {
	for i += step; i >= 0 && i < len(rs); i += step {
		r := rs[i]
		if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk) || strings.ContainsRune("'.:·’", r) {
			continue
		}
		return unicode.IsUpper(r) || unicode.IsLower(r) || unicode.IsTitle(r)
	}
	return false
}

// endings are what is cut off after an apostrophe, in the order in which they are tried.
var endings = []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}

// bpeWords cuts a clean text into marks, endings, runs of letters, digits one by one, and runs of other characters.
func bpeWords(s string) (words []string) {
	for s != "" {
		n := 0
		for _, p := range append([]string{bpeBegin, bpeEnd}, endings...) {
			if strings.HasPrefix(s, p) {
				n = len(p)
				break
			}
		}
		if n == 0 {
			n = wordLen(s)
		}
		if s[0] != ' ' {
			words = append(words, s[:n])
		}
		s = s[n:]
	}
	return words
}

func wordLen(s string) int {
	kind := func(r rune) int {
		switch {
		case unicode.IsSpace(r):
			return 0
		case unicode.IsLetter(r):
			return 1
		case unicode.IsNumber(r):
			return 2
		}
		return 3
	}
	first := -1
	for i, r := range s {
		k := kind(r)
		if first < 0 {
			first = k
		} else if k != first || k == 2 || k == 0 {
			return i
		}
	}
	return len(s)
}
