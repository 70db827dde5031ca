package folder

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/fidlab/fidlab/data"
)

// Beside takes a picture's captions from the .txt of its name beside it, one a line. It wants a folder.
const Beside = "txt"

// The bounds of captions.
const (
	maxCaptionFile = 1 << 20 // bytes of a .txt beside a picture
	maxCaptions    = 1 << 10 // of a picture
)

// captionKeys are the keys of a caption, or of a list of them.
var captionKeys = []string{"text", "caption", "captions"}

// captioner tells the captions of pictures.
type captioner struct {
	file string // of lines or rows; "" where captions lie beside the pictures
	root string
	of   map[string][]string
}

// newCaptioner is nil where no captions are asked for.
func newCaptioner(o *Options) (*captioner, error) {
	switch st, err := os.Stat(o.Input); {
	case o.Captions == "":
		return nil, nil
	case o.Captions != Beside:
		b, err := readBounded(o.Captions, maxLabelBytes)
		if err != nil {
			return nil, data.Errorf("folder: captions: %w; want %s, a .jsonl or a .parquet", err, Beside)
		}
		of, err := captionDocs(strings.ToLower(filepath.Ext(o.Captions)), b)
		if err != nil {
			return nil, data.Errorf("folder: %s: %w", o.Captions, err)
		}
		return &captioner{file: o.Captions, of: of}, nil
	case err != nil || !st.IsDir():
		return nil, data.Errorf("folder: %s: captions beside the pictures are read from folders alone; unpack it, or give a .jsonl or a .parquet", o.Input)
	}
	return &captioner{root: o.Input}, nil
}

// Texts are the captions of the pictures of an input.
type Texts struct {
	root string
	c    *captioner
}

// OpenTexts finds the captions of an input's pictures, Beside them or in a .jsonl.
func OpenTexts(input, captions string) (*Texts, error) {
	c, err := newCaptioner(&Options{Input: input, Captions: captions})
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, data.Errorf("folder: %s: no captions are named; want %s or a .jsonl", input, Beside)
	}
	return &Texts{rootOf(input), c}, nil
}

// Of is the captions of the picture that imageio calls name.
func (t *Texts) Of(name string) ([]string, error) {
	local := localName(t.root, name)
	list, reason := t.c.captions(local)
	if reason != "" {
		return nil, data.Errorf("folder: %s: %s", local, reason)
	}
	return list, nil
}

// captions are a picture's, or why it has none.
func (c *captioner) captions(name string) (list []string, reason string) {
	if c.file != "" {
		if list = c.of[name]; len(list) == 0 {
			return nil, "has no caption in " + c.file
		}
		return list, ""
	}
	txt := strings.TrimSuffix(name, path.Ext(name)) + ".txt"
	b, err := readBounded(filepath.Join(c.root, filepath.FromSlash(txt)), maxCaptionFile)
	switch {
	case err != nil:
		return nil, fmt.Sprintf("its caption: %v", err)
	case !utf8.Valid(b):
		return nil, fmt.Sprintf("its caption: %s is no UTF-8", txt)
	}
	for line := range strings.Lines(strings.TrimPrefix(string(b), "\ufeff")) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	switch {
	case len(list) == 0:
		return nil, fmt.Sprintf("its caption: %s is empty", txt)
	case len(list) > maxCaptions:
		return nil, fmt.Sprintf("its caption: %s has %d lines; want at most %d", txt, len(list), maxCaptions)
	}
	return list, ""
}

// captionDocs reads lines such as {"file_name": "a.png", "text": "a cat"}, or such rows; a picture may have several, and
// each a list of captions.
func captionDocs(ext string, b []byte) (map[string][]string, error) {
	out := map[string][]string{}
	err := eachDoc(ext, b, captionKeys, func(at, name string, doc map[string]json.RawMessage) error {
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return fmt.Errorf("%s names %q; want a file inside the set", at, name)
		}
		var list []string
		for _, k := range captionKeys {
			var one string
			var many []string
			switch raw := doc[k]; {
			case raw == nil:
			case json.Unmarshal(raw, &one) == nil:
				list = append(list, one)
			case json.Unmarshal(raw, &many) == nil:
				list = append(list, many...)
			default:
				return fmt.Errorf("%s: the %s of %q is %.40s; want a text or a list of them", at, k, name, raw)
			}
		}
		name = path.Clean(filepath.ToSlash(name))
		for _, text := range list {
			if text = strings.TrimSpace(text); text != "" {
				out[name] = append(out[name], text)
			}
		}
		switch k := len(out[name]); {
		case k == 0:
			return fmt.Errorf("%s: %q has no caption; want file_name and text", at, name)
		case k > maxCaptions:
			return fmt.Errorf("%s: %q has %d captions; want at most %d", at, name, k, maxCaptions)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("it has no caption")
	}
	return out, nil
}
