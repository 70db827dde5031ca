package text

import (
	"fmt"
	"strings"
)

// The first three ids of every vocabulary.
const (
	Pad = 0 // fills the slots behind the end
	Bos = 1 // begins a caption
	Eos = 2 // ends it
)

// Vocabulary is a closed list of at most 256 words; a word's place is its id.
// It is not changed after NewVocabulary and safe for several goroutines.
type Vocabulary struct {
	words []string
	ids   map[string]uint8
}

// NewVocabulary makes a vocabulary whose word i has id i. Ids 0, 1 and 2 must be
// "<pad>", "<bos>" and "<eos>"; an empty word is an id that stands for nothing
// yet. It panics when words repeat or hold spaces, which is a wrong table.
func NewVocabulary(words []string) *Vocabulary {
	if len(words) < 3 || len(words) > 256 || words[Pad] != "<pad>" || words[Bos] != "<bos>" || words[Eos] != "<eos>" {
		panic("text: NewVocabulary: want 3 to 256 words that begin with <pad>, <bos>, <eos>")
	}
	v := &Vocabulary{words: append([]string(nil), words...), ids: map[string]uint8{}}
	for i, w := range words {
		if w == "" {
			continue
		}
		if _, twice := v.ids[w]; twice || len(Words(w)) != 1 {
			panic(fmt.Sprintf("text: NewVocabulary: word %d, %q, is there twice or is no single word", i, w))
		}
		v.ids[w] = uint8(i)
	}
	return v
}

// Len is the number of ids, those that stand for nothing included.
func (v *Vocabulary) Len() int { return len(v.words) }

// Word is the word of an id, "" for one that stands for nothing or is too large.
func (v *Vocabulary) Word(id int) string {
	if id < 0 || id >= len(v.words) {
		return ""
	}
	return v.words[id]
}

// ID is the id of a word, or an *UnknownWordError.
func (v *Vocabulary) ID(word string) (uint8, error) {
	if id, ok := v.ids[word]; ok && id > Eos {
		return id, nil
	}
	known := make([]string, 0, len(v.words))
	for _, w := range v.words[Eos+1:] {
		if w != "" {
			known = append(known, w)
		}
	}
	return 0, &UnknownWordError{Word: word, Nearest: Nearest(word, known), Words: len(known)}
}

// UnknownWordError is a word that is not in a closed vocabulary.
type UnknownWordError struct {
	Word    string
	Nearest string // the known word that was probably meant, or ""
	Words   int    // how many words the vocabulary has
}

func (e *UnknownWordError) Error() string {
	if e.Nearest != "" {
		return fmt.Sprintf("text: %q is not in the vocabulary; did you mean %q?", e.Word, e.Nearest)
	}
	return fmt.Sprintf("text: %q is not among the %d words of the vocabulary; use those only", e.Word, e.Words)
}

// Words splits a caption at white space; a comma is a word of its own.
func Words(caption string) []string { return strings.Fields(strings.ReplaceAll(caption, ",", " , ")) }

// Encode fills the slots of dst with the caption: <bos>, its words, <eos>, then
// <pad>. It fails at the first unknown word (*UnknownWordError) and when the
// caption needs more slots; dst is then all <pad>.
func (v *Vocabulary) Encode(dst []uint8, caption string) error {
	clear(dst)
	words := Words(caption)
	if need := len(words) + 2; need > len(dst) {
		return fmt.Errorf("text: caption of %d words needs %d slots; there are %d: shorten it", len(words), need, len(dst))
	}
	for i, w := range words {
		id, err := v.ID(w)
		if err != nil {
			clear(dst)
			return err
		}
		dst[1+i] = id
	}
	dst[0], dst[len(words)+1] = Bos, Eos
	return nil
}

// Decode is the caption of tokens as Encode makes them: words with single
// spaces. It refuses other sequences: no <bos> first, no <eos>, anything but
// <pad> behind it, an id without a word.
func (v *Vocabulary) Decode(tokens []uint8) (string, error) {
	if len(tokens) == 0 || tokens[0] != Bos {
		return "", fmt.Errorf("text: tokens do not begin with <bos> (id %d)", Bos)
	}
	var words []string
	for i, id := range tokens[1:] {
		switch {
		case id == Eos:
			for j, p := range tokens[i+2:] {
				if p != Pad {
					return "", fmt.Errorf("text: token %d behind <eos> has id %d; want <pad> (id %d)", i+2+j, p, Pad)
				}
			}
			return strings.Join(words, " "), nil
		case id < Eos || v.Word(int(id)) == "":
			return "", fmt.Errorf("text: token %d has id %d, which is no word here; want a word or <eos> (id %d)", i+1, id, Eos)
		}
		words = append(words, v.words[id])
	}
	return "", fmt.Errorf("text: %d tokens without <eos> (id %d)", len(tokens), Eos)
}
