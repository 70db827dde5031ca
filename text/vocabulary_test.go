package text

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestScenes(t *testing.T) {
	if Scenes.Len() != 128 {
		t.Fatalf("%d ids", Scenes.Len())
	}
	used := func(from, to int) (n int) {
		for id := from; id < to; id++ {
			if Scenes.Word(id) != "" {
				n++
			}
		}
		return n
	}
	if g, d, n, f := used(3, 48), used(48, 64), used(64, 112), used(112, 128); g != 36 || d > 16 || n != 48 || f != 0 {
		t.Errorf("%d words of grammar, %d of description, %d nouns, %d beyond; want 36, at most 16, 48, 0", g, d, n, f)
	}
	noun := regexp.MustCompile(`^[bdfgklmnprtvz][aeiou][bdfgklmnprtvz][aeiou]$`)
	for id := SceneNouns; id < SceneFree; id++ {
		w := Scenes.Word(id)
		if !noun.MatchString(w) {
			t.Errorf("noun %q is not consonant, vowel, consonant, vowel", w)
		}
		for o := 3; o < id; o++ {
			if edits(w, Scenes.Word(o)) < 2 {
				t.Errorf("%q is one edit away from %q: a typing error would be another word", w, Scenes.Word(o))
			}
		}
	}
	for id, want := range map[int]string{0: "<pad>", 1: "<bos>", 2: "<eos>", 3: "a", 18: "circle", 38: "three", 48: "like", 64: "tiba", 111: "kemu", 127: "", 128: "", -1: ""} {
		if got := Scenes.Word(id); got != want {
			t.Errorf("id %d is %q, want %q", id, got, want)
		}
	}
}

func TestEncode(t *testing.T) {
	var s [8]uint8
	if err := Scenes.Encode(s[:], " a  red circle, "); err != nil {
		t.Fatal(err)
	}
	if want := [8]uint8{1, 3, 22, 18, 5, 2, 0, 0}; s != want {
		t.Errorf("tokens %v, want %v", s, want)
	}
	if got, err := Scenes.Decode(s[:]); err != nil || got != "a red circle ," {
		t.Errorf("back: %q, %v", got, err)
	}
	if err := Scenes.Encode(s[:], ""); err != nil || s != [8]uint8{1, 2} {
		t.Errorf("no words: %v, %v", s, err)
	}
	if err := Scenes.Encode(s[:], "a a a a a a"); err != nil {
		t.Errorf("a full caption: %v", err)
	}
	for caption, want := range map[string]string{
		"a a a a a a a": "7 words needs 9 slots; there are 8", "a red crcle": `"crcle" is not in the vocabulary; did you mean "circle"`,
		"a purple cross": `"purple" is not among the 97 words`, "<eos> a": `"<eos>"`, "a Red circle": `did you mean "red"`,
	} {
		s = [8]uint8{9, 9, 9}
		err := Scenes.Encode(s[:], caption)
		if err == nil || !strings.Contains(err.Error(), want) || s != [8]uint8{} {
			t.Errorf("%q: %v, tokens %v; want an error with %q and no tokens", caption, err, s, want)
		}
		var word *UnknownWordError
		if errors.As(err, &word) != strings.Contains(want, `"`) {
			t.Errorf("%q: error is %T", caption, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for want, tokens := range map[string][]uint8{
		"do not begin": {3, 2}, "without <eos>": {1, 3, 3}, "behind <eos>": {1, 3, 2, 0, 3}, "id 0, which is no word": {1, 0, 2}, "id 120": {1, 120, 2}, "id 200": {1, 200, 2}, "begin with": {},
	} {
		if got, err := Scenes.Decode(tokens); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %q, %v; want an error with %q", tokens, got, err, want)
		}
	}
}

func TestNewVocabularyPanics(t *testing.T) {
	for name, words := range map[string][]string{
		"short": {"<pad>", "<bos>"}, "order": {"<bos>", "<pad>", "<eos>"}, "twice": {"<pad>", "<bos>", "<eos>", "a", "a"}, "space": {"<pad>", "<bos>", "<eos>", "a b"},
		"long": append([]string{"<pad>", "<bos>", "<eos>"}, make([]string, 254)...),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			NewVocabulary(words)
		}()
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("a red circle , a blue square", []byte{1, 3, 2, 0})
	f.Fuzz(func(t *testing.T, caption string, tokens []byte) {
		var s, back [16]uint8
		if Scenes.Encode(s[:], caption) == nil {
			got, err := Scenes.Decode(s[:])
			if err != nil || got != strings.Join(Words(caption), " ") {
				t.Fatalf("%q came back as %q, %v", caption, got, err)
			}
		}
		if got, err := Scenes.Decode(tokens); err == nil && len(tokens) <= 16 {
			if err := Scenes.Encode(back[:], got); err != nil || string(back[:len(tokens)]) != string(tokens) {
				t.Fatalf("%v decoded to %q, which encodes to %v, %v", tokens, got, back, err)
			}
		}
	})
}
