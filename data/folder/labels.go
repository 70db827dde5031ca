package folder

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/data"
)

// The bounds of files of labels.
const (
	maxLabelBytes = 1 << 30 // of a file
	maxLabelLine  = 1 << 20 // of a line of a .jsonl
	maxClasses    = 1 << 16
)

// labels are the classes of a file of labels.
type labels struct {
	file    string
	of      map[string]int // by the picture's name
	classes []string
}

// labelled is a line of one.
type labelled struct {
	at    string // "line 3"
	name  string
	label string
}

// parseLabels reads a file of labels; its name says of which kind it is. Nil: a dataset.json that has none.
func parseLabels(file string, b []byte) (*labels, error) {
	var list []labelled
	var classes []string
	var err error
	switch ext := strings.ToLower(filepath.Ext(file)); ext {
	case ".json":
		if list, classes, err = datasetJSON(b); err == nil && list == nil {
			return nil, nil
		}
	case ".csv":
		list, err = labelCSV(b)
	case ".jsonl", parquetExt:
		list, err = labelDocs(ext, b)
	default:
		return nil, data.Errorf("folder: %s: labels in a file named %q; want .json, .csv, .jsonl or .parquet", file, ext)
	}
	if err == nil && len(list) == 0 {
		err = errors.New("it labels no picture")
	}
	if err != nil {
		return nil, data.Errorf("folder: %s: %w", file, err)
	}
	l, err := newLabels(list, classes)
	if err != nil {
		return nil, data.Errorf("folder: %s: %w", file, err)
	}
	l.file = file
	return l, nil
}

// newLabels numbers the classes. Labels that are all whole numbers are the numbers of classes, which names may be given
// for; others are names, numbered in their order.
func newLabels(list []labelled, names []string) (*labels, error) {
	out := &labels{of: make(map[string]int, len(list)), classes: names}
	number := map[string]int{}
	numbers, top := true, -1
	for _, e := range list {
		n, err := strconv.Atoi(e.label)
		if numbers = numbers && err == nil && strconv.Itoa(n) == e.label; numbers {
			if n < 0 || n >= maxClasses {
				return nil, fmt.Errorf("%s: the label of %q is %d; want 0 to %d", e.at, e.name, n, maxClasses-1)
			}
			top = max(top, n)
		}
		number[e.label] = n
	}
	switch {
	case numbers && names == nil:
		for n := range top + 1 {
			out.classes = append(out.classes, strconv.Itoa(n))
		}
	case numbers && top >= len(names):
		return nil, fmt.Errorf("a label is %d, and there are %d names of classes; want labels below that", top, len(names))
	case !numbers && names != nil:
		return nil, errors.New("names of classes and labels that are no numbers; want numbers, or no list of names")
	case !numbers:
		out.classes = slices.Sorted(maps.Keys(number))
		if len(out.classes) > maxClasses {
			return nil, fmt.Errorf("%d classes; want at most %d", len(out.classes), maxClasses)
		}
		for i, c := range out.classes {
			number[c] = i
		}
	}
	for _, e := range list {
		name := path.Clean(e.name)
		switch _, twice := out.of[name]; {
		case !filepath.IsLocal(filepath.FromSlash(name)):
			return nil, fmt.Errorf("%s names %q; want a file inside the set", e.at, e.name)
		case e.label == "":
			return nil, fmt.Errorf("%s: the label of %q is empty; want a class", e.at, e.name)
		case twice:
			return nil, fmt.Errorf("%s labels %q a second time; want one label a picture", e.at, e.name)
		}
		out.of[name] = number[e.label]
	}
	return out, nil
}

// datasetJSON reads {"labels": [["00000/img00000000.png", 6], …]}, as EDM and StyleGAN have it, null where there are none,
// or {"labels": {"a.png": "cat", …}}; "classes", a list of names, may be there too.
func datasetJSON(b []byte) (list []labelled, classes []string, err error) {
	var doc struct {
		Labels  json.RawMessage `json:"labels"`
		Classes []string        `json:"classes"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, nil, err
	}
	const want = `want {"labels": [["a.png", 0], …]}`
	switch raw := bytes.TrimSpace(doc.Labels); {
	case raw == nil:
		return nil, nil, errors.New(`it has no "labels"; ` + want)
	case string(raw) == "null":
		return nil, nil, nil
	case raw[0] == '{':
		of := map[string]json.RawMessage{}
		if err := json.Unmarshal(raw, &of); err != nil {
			return nil, nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(of)) {
			l, err := labelValue(of[name])
			if err != nil {
				return nil, nil, fmt.Errorf("the label of %q %w", name, err)
			}
			list = append(list, labelled{"its list", name, l})
		}
	default:
		var pairs [][]json.RawMessage
		if err := json.Unmarshal(raw, &pairs); err != nil {
			return nil, nil, fmt.Errorf("labels: %w; %s", err, want)
		}
		for i, p := range pairs {
			e := labelled{at: fmt.Sprintf("label %d", i)}
			if len(p) != 2 || json.Unmarshal(p[0], &e.name) != nil {
				return nil, nil, fmt.Errorf("label %d is no pair of a name and a label; %s", i, want)
			}
			if e.label, err = labelValue(p[1]); err != nil {
				return nil, nil, fmt.Errorf("the label of %q %w", e.name, err)
			}
			list = append(list, e)
		}
	}
	if list == nil {
		list = []labelled{}
	}
	return list, doc.Classes, nil
}

// labelValue is a label that is a name or a whole number.
func labelValue(raw json.RawMessage) (string, error) {
	var name string
	var n int
	if json.Unmarshal(raw, &n) == nil && string(raw) != "null" {
		return strconv.Itoa(n), nil
	}
	if json.Unmarshal(raw, &name) == nil && name != "" {
		return name, nil
	}
	return "", fmt.Errorf("is %.40s; want a whole number or a name", raw)
}

// The names of columns and keys.
var (
	nameKeys  = []string{"file_name", "filename", "file", "image", "path"}
	labelKeys = []string{"label", "class"}
)

// labelCSV reads lines of a name and a label. A first line that names the columns may have others besides.
func labelCSV(b []byte) (list []labelled, err error) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))))
	nameAt, labelAt := 0, 1
	for n := 0; ; n++ {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		if n == 0 {
			find := func(keys []string) int {
				return slices.IndexFunc(row, func(c string) bool { return slices.Contains(keys, strings.ToLower(strings.TrimSpace(c))) })
			}
			if i, j := find(nameKeys), find(labelKeys); i >= 0 && j >= 0 {
				nameAt, labelAt = i, j
				continue
			}
			if len(row) != 2 {
				return nil, fmt.Errorf("%d columns and no line that names them; want file_name,label first, or two columns", len(row))
			}
		}
		list = append(list, labelled{fmt.Sprintf("line %d", line), row[nameAt], strings.TrimSpace(row[labelAt])})
	}
}

// labelDocs reads lines such as {"file_name": "a.png", "label": "cat"}, or such rows.
func labelDocs(ext string, b []byte) (list []labelled, err error) {
	err = eachDoc(ext, b, labelKeys, func(at, name string, doc map[string]json.RawMessage) error {
		i := slices.IndexFunc(labelKeys, func(k string) bool { return doc[k] != nil })
		if i < 0 {
			return fmt.Errorf("%s: %q has no label; want file_name and label", at, name)
		}
		label, err := labelValue(doc[labelKeys[i]])
		if err != nil {
			return fmt.Errorf("%s: the label of %q %w", at, name, err)
		}
		list = append(list, labelled{at, name, label})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// eachDoc calls f with every line of a .jsonl, or row of a .parquet, the picture that it names, and where it is. Of rows f sees the
// keys alone.
func eachDoc(ext string, b []byte, keys []string, f func(at, name string, doc map[string]json.RawMessage) error) error {
	where := "line"
	each := func(n int, doc map[string]json.RawMessage) error {
		at, name := fmt.Sprintf("%s %d", where, n), ""
		for _, k := range nameKeys {
			if doc[k] != nil && json.Unmarshal(doc[k], &name) == nil && name != "" {
				break
			}
		}
		if name == "" {
			return fmt.Errorf("%s names no picture; want file_name and %s", at, keys[0])
		}
		return f(at, name, doc)
	}
	if ext == parquetExt {
		where = "row"
		return eachRow(b, append(slices.Clone(nameKeys), keys...), each)
	}
	return eachLine(b, each)
}

// eachLine calls f with every line that is not empty, a JSON document, and its number, until one is an error.
func eachLine(b []byte, f func(n int, doc map[string]json.RawMessage) error) error {
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(make([]byte, 1<<16), maxLabelLine)
	for n := 1; sc.Scan(); n++ {
		if len(bytes.TrimSpace(sc.Bytes())) == 0 {
			continue
		}
		var doc map[string]json.RawMessage
		if err := json.Unmarshal(sc.Bytes(), &doc); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err := f(n, doc); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("%w; want lines of at most %d bytes", err, maxLabelLine)
	}
	return nil
}
