package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/fidlab/fidlab/report"
)

// fingerprint is a hash of the names, sizes and times of a set's files, and the newest of those times; "" for a folder without files.
func fingerprint(path string) (print string, newest time.Time, err error) {
	h, files := sha256.New(), 0
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		files++
		if st.ModTime().After(newest) {
			newest = st.ModTime()
		}
		fmt.Fprintf(h, "%q %d %d\n", p, st.Size(), st.ModTime().UnixNano())
		return nil
	})
	if err != nil || files == 0 {
		return "", newest, err
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), newest, nil
}

var lastNumber = regexp.MustCompile(`([0-9]{1,15})[^0-9]*$`)

// stepOf is the number at the end of a set's name; 0 for none.
func stepOf(name string) int {
	m := lastNumber.FindStringSubmatch(trimArchive(name))
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1]) // it is digits, and few
	return n
}

// trimArchive drops what a name's end says of its format.
func trimArchive(name string) string {
	for {
		switch ext := filepath.Ext(name); ext {
		case ".zip", ".tar", ".gz", ".tgz", ".npz", ".npy":
			name = name[:len(name)-len(ext)]
		default:
			return name
		}
	}
}

// page is the curve and the table of all sets.
func (w *watcher) page() *report.Page {
	var chart report.Chart
	chart.Caption, chart.Unit = "FID with its interval, in the order of the steps", "FID"
	table := report.Table{Columns: report.Columns("set", "step>", "images>", "fid>", "interval", "behind the best>", "state", "scored")}
	best := w.bestBefore()
	sets := slices.SortedStableFunc(slices.Values(w.sets), func(p, q watchedSet) int { return p.Step - q.Step })
	for _, s := range sets {
		row := []string{s.Set, fmt.Sprint(s.Step), "", "", "", "", s.State, s.At.Format(time.DateTime)}
		if s.FID == nil {
			row[6] = "bad: " + s.Error
		} else {
			row[2], row[3], row[4] = fmt.Sprint(s.N), valueText(*s.FID), between(s.CI)
			r := report.Row{Label: s.Set, Value: *s.FID, Accent: best != nil && s.Set == best.Set && s.Print == best.Print}
			if s.CI != nil {
				r.Lo, r.Hi = s.CI[0], s.CI[1]
			}
			chart.Rows = append(chart.Rows, r)
		}
		if s.Behind != nil {
			row[5] = fmt.Sprintf("%+.4f", *s.Behind)
		}
		table.Rows = append(table.Rows, row)
	}
	section := report.Section{Title: "Sets"}
	if len(chart.Rows) > 0 {
		section.Blocks = append(section.Blocks, chart)
	}
	section.Blocks = append(section.Blocks, table)
	p := &report.Page{
		Title:    fmt.Sprintf("%s against %s", w.o.dir, w.o.ref),
		Lead:     fmt.Sprintf("%s sets were looked at.", report.Count(len(w.sets))),
		Sections: []report.Section{section},
		Facts:    []report.Fact{{Name: "reference", Value: w.o.ref}, {Name: "folder", Value: w.o.dir}},
		Footer:   "fidlab " + version,
	}
	if w.e != nil {
		info := w.e.Info()
		p.Facts = append(p.Facts, report.Fact{Name: "extractor", Value: fmt.Sprintf("%s, %d features", info.Name, info.Dim)},
			report.Fact{Name: "weights", Value: info.SHA256}, report.Fact{Name: "preset", Value: info.Preset})
	}
	return p
}
