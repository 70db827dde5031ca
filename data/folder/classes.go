package folder

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
)

// ownName is the file of labels that a set brings itself.
const ownName = "dataset.json"

// ownLabels is the dataset.json of a folder or zip; nil where there is none.
func ownLabels(input string, folder bool) (file string, b []byte, err error) {
	switch {
	case folder:
		file = filepath.Join(input, ownName)
		b, err = readBounded(file, maxLabelBytes)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil, nil
		}
	case strings.EqualFold(filepath.Ext(input), ".zip"):
		file = input + "/" + ownName
		b, err = zipMember(input, ownName)
	}
	if err != nil {
		return "", nil, data.Errorf("folder: %s: %w", file, err)
	}
	return file, b, nil
}

// zipMember is a member of a zip, nil where there is none of that name.
func zipMember(archive, name string) ([]byte, error) {
	z, err := zip.OpenReader(archive)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, err
	}
	defer z.Close()
	for _, m := range z.File {
		if m.Name != name {
			continue
		}
		r, err := m.Open()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return bounded(r, maxLabelBytes)
	}
	return nil, nil
}

// readBounded reads a regular file of at most so many bytes.
func readBounded(file string, most int64) ([]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, fmt.Errorf("%s is a %v; want a regular file", file, st.Mode().Type())
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded(f, most)
}

func bounded(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("over %d bytes; want a file of labels", most)
	}
	if b == nil {
		b = []byte{}
	}
	return b, err
}

// prefixes numbers the beginnings of all names.
func (c *classer) prefixes(src imageio.Source) error {
	c.number = map[string]int{}
	if src.Len() < 0 {
		return data.Errorf("folder: %s: classes by the beginnings of names want an input that can be read twice; save the stream to a file", src.Describe())
	}
	err := src.Each(context.Background(), func(it imageio.Item) error {
		if p := prefixOf(it.Name); p != "" {
			c.number[p] = 0
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.classes = slices.Sorted(maps.Keys(c.number))
	if len(c.classes) > maxClasses || len(c.classes) == 0 {
		return data.Errorf("folder: %s: %d beginnings of names before an underscore; want 1 to %d, as in cat_001.png", src.Describe(), len(c.classes), maxClasses)
	}
	for i, p := range c.classes {
		c.number[p] = i
	}
	return nil
}

// prefixOf is a file's name before its first underscore, "" where it has none.
func prefixOf(name string) string {
	p, _, ok := strings.Cut(path.Base(filepath.ToSlash(name)), "_")
	if !ok {
		return ""
	}
	return p
}

// class is a picture's class, or why it has none. label is what the input says of it.
func (c *classer) class(name string, label int) (class int, reason string) {
	switch {
	case c.table != nil:
		if l, ok := c.table.of[name]; ok {
			return l, ""
		}
		return 0, "has no label in " + c.table.file
	case c.mode == Folders && label < 0:
		return 0, "lies in no folder of a class"
	case c.mode == Folders:
		return label, ""
	case c.mode == Prefix:
		if l, ok := c.number[prefixOf(name)]; ok {
			return l, ""
		}
		return 0, "its name has no underscore after a class"
	}
	return -1, ""
}

// missing are the pictures that the files of labels and captions name and that are neither there nor known to be bad.
func (l *loader) missing() (out []imageio.Bad) {
	seen := make(map[string]bool, len(l.items)+len(l.bad))
	for _, e := range l.items {
		seen[e.name] = true
	}
	for _, b := range l.bad {
		seen[b.Path] = true
	}
	miss := func(name, file string) {
		if !seen[name] {
			seen[name] = true
			out = append(out, imageio.Bad{Path: name, Reason: "is named in " + file + " and is no picture of the set"})
		}
	}
	if t := l.classer.table; t != nil {
		for name := range t.of {
			miss(name, t.file)
		}
	}
	if c := l.captioner; c != nil {
		for name := range c.of {
			miss(name, c.file)
		}
	}
	return out
}
