package text

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// BPE is CLIP's byte-pair encoding (Radford et al. 2021; Sennrich et al. 2016, arXiv 1508.07909):
// lower-case text, cut into words, numbers and the rest, whose UTF-8 bytes are merged by a
// table. It is not changed after it was opened and safe for several goroutines.
type BPE struct {
	Begin, End int32  // ids that stand around a text
	SHA256     string // of the table of merges as it was read, decompressed

	ids   map[string]int32
	ranks map[[2]string]int
}

const (
	bpeBegin, bpeEnd = "<|startoftext|>", "<|endoftext|>"
	bpeWordEnd       = "</w>"
	bpeMerges        = 49152 - 256 - 2 // of the published table, of which no more are used
	bpeFile          = 64 << 20        // bytes that a vocabulary may have
	bpeText          = 1 << 16         // bytes that a text may have
)

// OpenBPE reads a vocabulary: the table of merges of OpenAI's CLIP, bpe_simple_vocab_16e6.txt.gz,
// compressed or not; or a folder with vocab.json and merges.txt as Hugging Face has them.
func OpenBPE(path string) (*BPE, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("text: vocabulary: %w; want bpe_simple_vocab_16e6.txt.gz, or a folder with vocab.json and merges.txt", err)
	}
	merges, vocab := path, ""
	if st.IsDir() {
		merges, vocab = filepath.Join(path, "merges.txt"), filepath.Join(path, "vocab.json")
	}
	b, err := readVocabulary(merges)
	if err != nil {
		return nil, fmt.Errorf("text: vocabulary: %w", err)
	}
	v, err := newBPE(b)
	if err == nil && vocab != "" {
		err = v.readIDs(vocab)
	}
	if err != nil {
		return nil, fmt.Errorf("text: vocabulary %s: %w", path, err)
	}
	return v, nil
}

func readVocabulary(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, bpeFile+1))
	if err == nil && bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(b)); err == nil {
			b, err = io.ReadAll(io.LimitReader(z, bpeFile+1))
		}
	}
	if err == nil && len(b) > bpeFile {
		err = fmt.Errorf("more than %d bytes", bpeFile)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// newBPE makes the vocabulary of a table: a line of remarks, then a pair a line.
func newBPE(table []byte) (*BPE, error) {
	if !utf8.Valid(table) {
		return nil, errors.New("not UTF-8; want a table of merges")
	}
	first, rest, _ := strings.Cut(string(table), "\n")
	if !strings.Contains(first, "#version") {
		return nil, fmt.Errorf("it begins with %.40q; want a line with #version, then a pair of symbols a line", first)
	}
	v := &BPE{SHA256: fmt.Sprintf("%x", sha256.Sum256(table)), ids: map[string]int32{}, ranks: map[[2]string]int{}}
	add := func(s string) { v.ids[s] = int32(len(v.ids)) }
	for _, end := range []string{"", bpeWordEnd} {
		for _, b := range bpeOrder() {
			add(string(bpeRune[b]) + end)
		}
	}
	n := 0
	for line := range strings.Lines(rest) {
		if line = strings.TrimRight(line, "\r\n"); line == "" || n == bpeMerges {
			break
		}
		pair := strings.Split(line, " ")
		if len(pair) != 2 || v.ids[pair[0]] == 0 && pair[0] != "!" || v.ids[pair[1]] == 0 && pair[1] != "!" {
			return nil, fmt.Errorf("line %d: %.60q; want two symbols that are there before, and a space between", n+2, line)
		}
		if _, twice := v.ids[pair[0]+pair[1]]; twice {
			return nil, fmt.Errorf("line %d: %.60q is there twice", n+2, line)
		}
		v.ranks[[2]string{pair[0], pair[1]}] = n
		add(pair[0] + pair[1])
		n++
	}
	add(bpeBegin)
	add(bpeEnd)
	v.Begin, v.End = v.ids[bpeBegin], v.ids[bpeEnd]
	return v, nil
}

// readIDs replaces the ids by those of a vocab.json, which must have every symbol.
func (v *BPE) readIDs(path string) error {
	b, err := readVocabulary(path)
	if err != nil {
		return err
	}
	var ids map[string]int32
	if err := json.Unmarshal(b, &ids); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for s := range v.ids {
		if id, ok := ids[s]; !ok || id < 0 {
			return fmt.Errorf("%s has no id of %q, which merges.txt makes", path, s)
		}
	}
	v.ids, v.Begin, v.End = ids, ids[bpeBegin], ids[bpeEnd]
	return nil
}

// Len is the number of symbols.
func (v *BPE) Len() int { return len(v.ids) }

// Text is the ids of a text between Begin and End. Of more than most ids the last are left out
// but the End, and cut is set. It fails on text that is not UTF-8 or longer than 64 KiB.
func (v *BPE) Text(s string, most int) (ids []int32, cut bool, err error) {
	if !utf8.ValidString(s) {
		return nil, false, fmt.Errorf("text: %.60q is not UTF-8", s)
	}
	if len(s) > bpeText {
		return nil, false, fmt.Errorf("text: a text of %d bytes; want at most %d", len(s), bpeText)
	}
	ids = append([]int32{v.Begin}, v.Encode(s)...)
	if len(ids)+1 > most {
		ids, cut = ids[:most-1], true
	}
	return append(ids, v.End), cut, nil
}

// Encode is the ids of a text, which is cleaned (see Clean) and made lower-case.
func (v *BPE) Encode(s string) []int32 {
	var ids []int32
	for _, word := range bpeWords(lower(Clean(s))) {
		if word == bpeBegin || word == bpeEnd {
			ids = append(ids, v.ids[word])
			continue
		}
		for _, p := range v.merge(word) {
			ids = append(ids, v.ids[p])
		}
	}
	return ids
}

// merge is the symbols of a word: its bytes, the last with the mark of an end, merged pair by
// pair, those first that stand first in the table, everywhere in the word at once.
func (v *BPE) merge(word string) []string {
	parts := make([]string, len(word))
	for i := range len(word) {
		parts[i] = string(bpeRune[word[i]])
	}
	parts[len(parts)-1] += bpeWordEnd
	for len(parts) > 1 {
		best, pair := -1, [2]string{}
		for i := range parts[1:] {
			p := [2]string{parts[i], parts[i+1]}
			if r, ok := v.ranks[p]; ok && (best < 0 || r < best) {
				best, pair = r, p
			}
		}
		if best < 0 {
			break
		}
		out := parts[:0]
		for i := 0; i < len(parts); i++ {
			if i+1 < len(parts) && parts[i] == pair[0] && parts[i+1] == pair[1] {
				out = append(out, pair[0]+pair[1])
				i++
			} else {
				out = append(out, parts[i])
			}
		}
		parts = out
	}
	return parts
}

// bpeRune stands for a byte in symbols: itself where it can be seen, else a letter from U+0100 on.
var bpeRune = func() (r [256]rune) {
	n := rune(0)
	for b := range r {
		if bpeSeen(b) {
			r[b] = rune(b)
		} else {
			r[b] = 0x100 + n
			n++
		}
	}
	return r
}()

func bpeSeen(b int) bool {
	return '!' <= b && b <= '~' || 0xa1 <= b && b <= 0xac || 0xae <= b
}

// bpeOrder is the bytes in the order of their ids: those that can be seen first.
func bpeOrder() []byte {
	var seen, rest []byte
	for b := range 256 {
		if bpeSeen(b) {
			seen = append(seen, byte(b))
		} else {
			rest = append(rest, byte(b))
		}
	}
	return append(seen, rest...)
}
