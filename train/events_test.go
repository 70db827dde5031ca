package train

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/fidlab/fidlab/internal/oracle"
)

// Our events are, byte for byte, those that the package tensorboard writes.
func TestGoldenEvents(t *testing.T) {
	var events []struct {
		Wall    float64
		Step    int
		Version string
		Scalars [][2]any
		Picture string
		Start   bool
	}
	oracle.GoldenJSON(t, &events, "events", "run.json")
	read := func(name string) []byte {
		b, err := os.ReadFile(oracle.Golden(t, "events", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	want, png := read("run.tfevents"), read("picture.png")
	var got []byte
	var ends []int // of what is kept up to each event
	for _, e := range events {
		switch {
		case e.Version != "":
			got = appendRecord(got, event(e.Wall, e.Step, eventVersion, []byte(e.Version)))
		case e.Start:
			got = appendRecord(got, event(e.Wall, e.Step, eventSession, appendInt(nil, 1, 1)))
		case e.Picture != "":
			got = appendRecord(got, event(e.Wall, e.Step, eventSummary, picture(nil, e.Picture, 5, 7, png)))
		default:
			var s []byte
			for _, v := range e.Scalars {
				s = scalar(s, v[0].(string), v[1].(float64))
			}
			got = appendRecord(got, event(e.Wall, e.Step, eventSummary, s))
		}
		ends = append(ends, len(got))
	}
	if len(events) != 6 || !bytes.Equal(got, want) {
		t.Fatalf("%d events:\n%q\nwant\n%q", len(events), got, want)
	}
	for _, c := range []struct{ step, end int }{{0, ends[0]}, {1, ends[1]}, {49, ends[1]}, {50, ends[3]}, {51, ends[4]}, {299999, ends[4]}, {300000, ends[5]}} {
		if n, err := keptEvents(want, c.step); n != c.end || err != nil {
			t.Errorf("up to step %d: %d bytes, %v, want %d", c.step, n, err, c.end)
		}
	}
	for cut := range want { // a file that a crash cut anywhere has the whole records before
		end := 0
		for _, e := range ends {
			if e <= cut {
				end = e
			}
		}
		if n, err := keptEvents(want[:cut], 1<<40); n != end || err != nil {
			t.Errorf("cut at %d: %d bytes, %v, want %d", cut, n, err, end)
		}
	}
	for i := range want { // damage is seen
		bad := slices.Clone(want)
		bad[i] ^= 4
		if _, err := keptEvents(bad, 1<<40); err != errRecord {
			t.Errorf("byte %d is damaged: %v", i, err)
		}
	}
}

// found is what a folder's events say, by step: values, and sizes of pictures.
type found struct {
	values   map[string]map[int64]float32
	pictures map[int64][]byte
	starts   []int64
	records  int
}

// fields are those of a message, by number; numbers as 8 bytes.
func fields(t *testing.T, b []byte) map[int][][]byte {
	t.Helper()
	out := map[int][][]byte{}
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		b = b[n:]
		var v []byte
		switch tag & 7 {
		case 0:
			x, n := binary.Uvarint(b)
			v, b = binary.LittleEndian.AppendUint64(nil, x), b[n:]
		case 1:
			v, b = b[:8], b[8:]
		case 2:
			x, n := binary.Uvarint(b)
			v, b = b[n:][:x], b[n+int(x):]
		case 5:
			v, b = b[:4], b[4:]
		default:
			t.Fatalf("wire type %d", tag&7)
		}
		out[int(tag>>3)] = append(out[int(tag>>3)], v)
	}
	return out
}

// foundIn reads all files of a folder; a value of one step twice is an error.
func foundIn(t *testing.T, dir string) found {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*tfevents*"))
	if err != nil {
		t.Fatal(err)
	}
	f := found{values: map[string]map[int64]float32{}, pictures: map[int64][]byte{}}
	wall := 0.0
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; ; n++ {
			data, rest, err := record(b)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: record %d: %v", path, n, err)
			}
			b = rest
			f.records++
			e := fields(t, data)
			if version := e[eventVersion]; (n == 0) != (len(version) == 1 && string(version[0]) == "brain.Event:2") {
				t.Errorf("%s: record %d: version %q", path, n, version)
			}
			at := math.Float64frombits(binary.LittleEndian.Uint64(e[1][0]))
			if at < wall || at < 1.7e9 {
				t.Errorf("%s: record %d: time %v after %v", path, n, at, wall)
			}
			wall = at
			var step int64
			if len(e[eventStep]) > 0 {
				step = int64(binary.LittleEndian.Uint64(e[eventStep][0]))
			}
			if len(e[eventSession]) > 0 {
				f.starts = append(f.starts, step)
			}
			for _, s := range e[eventSummary] {
				for _, v := range fields(t, s)[1] {
					v := fields(t, v)
					tag := string(v[1][0])
					if img := v[4]; len(img) > 0 {
						if f.pictures[step] != nil || tag != "samples" {
							t.Errorf("picture %q of step %d, there is one", tag, step)
						}
						f.pictures[step] = fields(t, img[0])[4][0]
						continue
					}
					if f.values[tag] == nil {
						f.values[tag] = map[int64]float32{}
					}
					if _, twice := f.values[tag][step]; twice {
						t.Errorf("%s of step %d is there twice", tag, step)
					}
					f.values[tag][step] = math.Float32frombits(binary.LittleEndian.Uint32(v[2][0]))
				}
			}
		}
	}
	return f
}

// mustBeTheLog compares the events with log.csv and the pictures.
func mustBeTheLog(t *testing.T, dir string) found {
	t.Helper()
	f := foundIn(t, dir)
	b, err := os.ReadFile(filepath.Join(dir, "log.csv"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[int64]float32{}
	for _, r := range rows[1:] {
		step, _ := strconv.ParseInt(r[0], 10, 64)
		for i, c := range r[1:] {
			if c == "" {
				continue
			}
			name := rows[0][i+1]
			if want[name] == nil {
				want[name] = map[int64]float32{}
			}
			v, err := strconv.ParseFloat(c, 64)
			if err != nil {
				t.Fatal(err)
			}
			want[name][step] = float32(v)
		}
	}
	if len(want) < 6 || !reflect.DeepEqual(f.values, want) {
		t.Errorf("%s: values\n%v\nwant those of log.csv\n%v", dir, f.values, want)
	}
	files, err := filepath.Glob(filepath.Join(dir, "samples-*.png"))
	if err != nil || len(files) == 0 || len(f.pictures) != len(files) {
		t.Errorf("%d pictures for %d files, %v", len(f.pictures), len(files), err)
	}
	for _, file := range files {
		base := filepath.Base(file)
		step, _ := strconv.ParseInt(base[len("samples-"):len(base)-len(".png")], 10, 64)
		if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, f.pictures[step]) {
			t.Errorf("step %d: the picture differs from %s, %v", step, file, err)
		}
	}
	return f
}

// A run in one piece, and one in many: cancelled after steps, in previews and in evaluations, taken back to an earlier checkpoint, with a torn record.
func TestEvents(t *testing.T) {
	s := settings(30)
	whole := t.TempDir()
	if _, err := runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: whole, TensorBoard: true}); err != nil {
		t.Fatal(err)
	}
	want := mustBeTheLog(t, whole)
	if len(want.starts) != 0 {
		t.Errorf("starts at %v, want none", want.starts)
	}

	dir := t.TempDir()
	for i, at := range []int{3, 5, 9, 10, 20, 21, 22} {
		ctx, cancel := context.WithCancel(t.Context())
		job := testJob(s, 16)
		evaluate := job.Evaluate
		if i == 4 { // step 20's preview is there, what follows is not
			job.Evaluate = func(ctx context.Context, step int) ([]float64, error) {
				if step == at {
					cancel()
					return nil, ctx.Err()
				}
				return evaluate(ctx, step)
			}
		}
		c := Config{Settings: s, Dir: dir, Resume: i > 0, TensorBoard: i == 0, Progress: func(p Progress) {
			if p.Step == at && i != 4 {
				cancel()
			}
		}}
		r, err := runDir(t, ctx, job, c)
		if !errors.Is(err, context.Canceled) || r.Step != at {
			t.Fatalf("call %d, cancelled at step %d: %+v, %v", i, at, r, err)
		}
		cancel()
	}
	// A checkpoint of before, and half a record.
	saved, err := os.ReadFile(filepath.Join(dir, CheckpointName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir, Resume: true}); err != nil {
		t.Fatal(err)
	}
	mustBeTheLog(t, dir)
	if err := os.WriteFile(filepath.Join(dir, CheckpointName), saved, 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(eventsPath(dir, 22), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("\x20\x00\x00\x00\x00\x00\x00\x00torn")
	f.Close()
	for range 3 { // the last two have nothing to do
		if _, err := runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir, Resume: true}); err != nil {
			t.Fatal(err)
		}
		got := mustBeTheLog(t, dir)
		if !reflect.DeepEqual(got.values, want.values) || !reflect.DeepEqual(got.pictures, want.pictures) {
			t.Errorf("values and pictures differ from those of a whole run")
		}
		if len(got.starts) < 5 || !slices.IsSorted(got.starts) {
			t.Errorf("starts at %v", got.starts)
		}
	}
	// Without being asked for there are none, and those of a run that is overwritten go.
	if _, err := runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir, Overwrite: true}); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*tfevents*")); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
}

func TestEventsDamaged(t *testing.T) {
	s := settings(4)
	dir := t.TempDir()
	if _, err := runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir, TensorBoard: true}); err != nil {
		t.Fatal(err)
	}
	path := eventsPath(dir, 0)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[20] ^= 1
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = runDir(t, t.Context(), testJob(s, 16), Config{Settings: s, Dir: dir, Resume: true})
	if want := "train: " + path + ": no record of an event file; it is not this run's log: move it away"; err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// What is kept of any bytes is whole records, in order, of steps that are not too large; and what was written is read again.
func FuzzEvents(f *testing.F) {
	f.Add([]byte{}, 3)
	f.Add(appendRecord(appendRecord(nil, event(1, 2, eventSummary, scalar(nil, "a", 1))), event(2, 5, eventSession, appendInt(nil, 1, 1))), 4)
	f.Add(appendRecord(nil, []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}), 1)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		stepOfEvent(b)
		if n, err := keptEvents(b, step); err == nil {
			for kept := b[:n]; len(kept) > 0; {
				data, rest, err := record(kept)
				if err != nil {
					t.Fatalf("kept %q: %v", b[:n], err)
				}
				if at, err := stepOfEvent(data); err != nil || at > int64(step) {
					t.Fatalf("kept step %d of %d, %v", at, step, err)
				}
				if !bytes.Equal(appendRecord(nil, data), kept[:len(kept)-len(rest)]) {
					t.Fatalf("%q is written otherwise", data)
				}
				kept = rest
			}
		}
		step &= 1<<40 - 1
		e := event(1, step, eventSummary, scalar(nil, string(b), 2))
		if at, err := stepOfEvent(e); at != int64(step) || err != nil {
			t.Fatalf("step %d, %v, want %d", at, err, step)
		}
		if n, err := keptEvents(appendRecord(nil, e), step); err != nil || n == 0 {
			t.Fatal(n, err)
		}
	})
}
