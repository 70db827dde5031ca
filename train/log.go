package train

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

// row is a line of the log. What is NaN has an empty cell.
type row struct {
	step, skipped   int
	examples        uint64
	phases          []phaseMeans
	rates           []float64
	figures, scores []float64
}

// log is the files of a run: log.csv and log.jsonl, functions of the run's configuration, clock.csv, and events, with the times of
// their writing, where they are wanted.
type log struct {
	columns []string
	files   []*logFile
	events  *logFile // one of files; nil where there are none
	before  float64  // seconds of the calls before this one
	now     func() time.Time
}

// wall is the time as events have it, in seconds since 1970.
func (l *log) wall() float64 { return float64(l.now().UnixMicro()) / 1e6 }

// logFile is a file that is appended to. What could not be written, on a full disk, stays in pending.
type logFile struct {
	path    string
	f       *os.File
	size    int64 // of whole lines in the file
	pending []byte
}

// columns of log.csv.
func columns(job *Job, phases []phase) []string {
	out := []string{"step", "examples"}
	of := func(what, name string) string {
		if name == "" {
			return what
		}
		return what + "." + name
	}
	for _, p := range phases {
		out = append(out, of("loss", p.Name), of("norm", p.Name))
	}
	for _, n := range job.Nets {
		if len(job.Nets) == 1 {
			out = append(out, "rate")
		} else {
			out = append(out, "rate."+n.Name)
		}
	}
	out = append(out, "skipped")
	return slices.Concat(out, job.Figures, job.Scores)
}

// openLog opens the files in dir and cuts what was logged after the step from which the run goes on.
func openLog(dir string, columns []string, step int) (*log, error) {
	l := &log{columns: columns, now: time.Now}
	if dir == "" {
		return l, nil
	}
	for name, head := range map[string][]string{"log.csv": columns, "log.jsonl": nil, "clock.csv": {"step", "seconds"}} {
		f, last, err := openLogFile(filepath.Join(dir, name), head, step)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("train: %w", err)
		}
		l.files = append(l.files, f)
		if name == "clock.csv" && last != nil {
			if l.before, err = strconv.ParseFloat(last[1], 64); err != nil {
				l.close()
				return nil, fmt.Errorf("train: %s: the last line is %q, want a step and seconds", f.path, last)
			}
		}
	}
	return l, nil
}

// openLogFile cuts a file after the last whole line of at most that step, and opens it for more; last is that line's cells.
func openLogFile(path string, head []string, step int) (lf *logFile, last []string, err error) {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if step == 0 {
		old = nil
	}
	var keep []byte
	for n := 0; ; n++ {
		line, rest, whole := bytes.Cut(old, []byte("\n"))
		if !whole {
			break
		}
		old = rest
		var cells []string
		if head != nil {
			if cells, err = csv.NewReader(bytes.NewReader(line)).Read(); err != nil || len(cells) != len(head) {
				return nil, nil, fmt.Errorf("%s: line %d has %d cells, want %d; it is not this run's log: move it away", path, n+1, len(cells), len(head))
			}
		}
		switch {
		case n == 0 && head != nil:
			if !slices.Equal(cells, head) {
				return nil, nil, fmt.Errorf("%s: has the columns %q, want %q; it is not this run's log: move it away", path, cells, head)
			}
		default:
			at, err := stepOf(line, cells)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: line %d: %w; it is not this run's log: move it away", path, n+1, err)
			}
			if at > step {
				old = nil
				continue
			}
			last = cells
		}
		keep = append(append(keep, line...), '\n')
	}
	if keep == nil && head != nil {
		keep = csvLine(head)
	}
	err = tensor.WriteAtomic(path, func(w io.Writer) error {
		_, err := w.Write(keep)
		return err
	}, tensor.Overwrite)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0o666)
	if err != nil {
		return nil, nil, err
	}
	return &logFile{path: path, f: f, size: int64(len(keep))}, last, nil
}

// stepOf is the step of a line: of its cells, or of JSON.
func stepOf(line []byte, cells []string) (int, error) {
	if cells != nil {
		return strconv.Atoi(cells[0])
	}
	var v struct{ Step *int }
	if err := json.Unmarshal(line, &v); err != nil {
		return 0, err
	}
	if v.Step == nil {
		return 0, errors.New("no step")
	}
	return *v.Step, nil
}

func csvLine(cells []string) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Write(cells) // to memory
	w.Flush()
	return b.Bytes()
}

// add takes a line in; flush writes it.
func (l *log) add(r row, seconds float64) {
	if len(l.files) == 0 {
		return
	}
	cells := []string{strconv.Itoa(r.step), strconv.FormatUint(r.examples, 10)}
	number := func(v float64) {
		if math.IsNaN(v) {
			cells = append(cells, "")
			return
		}
		cells = append(cells, strconv.FormatFloat(v, 'g', -1, 64))
	}
	for _, p := range r.phases {
		number(p.loss)
		number(p.norm)
	}
	for _, v := range r.rates {
		number(v)
	}
	cells = append(cells, strconv.Itoa(r.skipped))
	for _, v := range r.figures {
		number(v)
	}
	for len(cells) < len(l.columns)-len(r.scores) {
		cells = append(cells, "")
	}
	for _, v := range r.scores {
		number(v)
	}
	for _, f := range l.files {
		switch name := filepath.Base(f.path); {
		case f == l.events:
			f.pending = appendScalars(f.pending, l.wall(), r.step, l.columns, cells)
		case name == "log.csv":
			f.pending = append(f.pending, csvLine(cells)...)
		case name == "clock.csv":
			f.pending = append(f.pending, csvLine([]string{cells[0], strconv.FormatFloat(l.before+seconds, 'f', 3, 64)})...)
		default:
			f.pending = append(f.pending, jsonLine(l.columns, cells)...)
		}
	}
}

// openEvents opens the events besides, for a run that stands at step; again says that the step's preview is drawn again.
func (l *log) openEvents(dir string, step int, again bool) error {
	last := step
	if again {
		last--
	}
	f, err := openEvents(dir, step, last, l.wall())
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	l.events, l.files = f, append(l.files, f)
	return nil
}

// preview takes a picture in where there are events, and writes them.
func (l *log) preview(step int, img *imageio.Image) error {
	if l.events == nil {
		return nil
	}
	var err error
	if l.events.pending, err = appendPicture(l.events.pending, l.wall(), step, img); err != nil {
		return err
	}
	return l.flush()
}

// jsonLine is the cells that are not empty as one object, in the order of the columns. JSON has no infinities: they
// become strings.
func jsonLine(columns, cells []string) []byte {
	b := []byte{'{'}
	for i, c := range cells {
		if c == "" {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		name, _ := json.Marshal(columns[i])
		b = append(append(b, name...), ':')
		if !json.Valid([]byte(c)) {
			b = strconv.AppendQuote(b, c)
		} else {
			b = append(b, c...)
		}
	}
	return append(b, '}', '\n')
}

// flush writes what is pending; where that fails it stays, and the file keeps whole lines only.
func (l *log) flush() error {
	var all error
	for _, f := range l.files {
		if len(f.pending) == 0 {
			continue
		}
		_, err := f.f.WriteAt(f.pending, f.size)
		if err == nil {
			err = f.f.Sync()
		}
		if err != nil {
			f.f.Truncate(f.size)
			all = errors.Join(all, err)
			continue
		}
		f.size += int64(len(f.pending))
		f.pending = f.pending[:0]
	}
	return all
}

func (l *log) close() error {
	err := l.flush()
	for _, f := range l.files {
		err = errors.Join(err, f.f.Close())
	}
	l.files = nil
	return err
}
