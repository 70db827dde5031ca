package motion

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
	kin "github.com/fidlab/fidlab/motion"
	"github.com/fidlab/fidlab/tensor"
)

// write makes a file of the folder.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func writeArray(t *testing.T, dir, name string, a *tensor.Array) {
	t.Helper()
	write(t, dir, name, "")
	if err := tensor.WriteNPYFile(filepath.Join(dir, name), a, tensor.Overwrite); err != nil {
		t.Fatal(err)
	}
}

// ramp1 is n rows whose numbers say where they are: row + channel/1000.
func ramp1(n, width int) []float32 {
	x := make([]float32, n*width)
	for i := range x {
		x[i] = float32(i/width) + float32(i%width)/1000
	}
	return x
}

// newFolder is a data set of one layout: motions of the given numbers of rows, whose
// statistics are mean = channel, deviation = 2.
func newFolder(t *testing.T, width int, rows map[string]int, texts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, n := range rows {
		writeArray(t, dir, "new_joint_vecs/"+name+".npy", tensor.FromF32(ramp1(n, width), n, width))
	}
	for name, s := range texts {
		write(t, dir, "texts/"+name+".txt", s)
	}
	mean, std := make([]float64, width), make([]float32, width)
	for c := range mean {
		mean[c], std[c] = float64(c), 2
	}
	writeArray(t, dir, "Mean.npy", tensor.FromF64(mean, width))
	writeArray(t, dir, "Std.npy", tensor.FromF32(std, width))
	return dir
}

const whole = "a man kicks.#a/DET man/NOUN kick/VERB#0.0#0.0\n"

func open(t *testing.T, dir string) *Folder {
	t.Helper()
	f, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFolder: the rules of the published loaders on both layouts, by hand.
func TestFolder(t *testing.T) {
	for _, c := range []struct {
		width int
		fps   float64
		least int
	}{{263, 20, 40}, {251, 12.5, 24}} {
		part := func(from, rows int) string { // a caption of so many rows
			return fmt.Sprintf("he goes on#he/PRON go/VERB on/ADV#%g#%g\n", (float64(from)+0.01)/c.fps, (float64(from+rows)+0.01)/c.fps)
		}
		dir := newFolder(t, c.width, map[string]int{"000001": 199, "M000001": c.least, "000002": 200, "000003": c.least - 1, "000005": 150},
			map[string]string{
				"000001":  "\ufeff" + whole + "\r\nhe kicks/boxes twice#he/PRON kick/boxes/VERB twice/ADV#nan#0\r\n" + part(10, c.least) + part(20, c.least-1) + part(150, 100),
				"M000001": whole, "000002": whole, "000003": whole,
				"000005": part(0, 100) + part(40, 60) + part(500, 50), // no caption of the whole
			})
		write(t, dir, "train.txt", "000001\nM000001\n\n000002\n000003\n000004\n 000005 \n")
		f := open(t, dir)
		if f.Layout.Width != c.width || f.Stats.Mean[7] != 7 || f.Stats.Std[c.width-1] != 2 {
			t.Fatalf("layout %s, statistics %v", f.Layout.Name, f.Stats.Mean[:8])
		}
		var clips []Clip
		s, err := f.Each(t.Context(), "train", func(k Clip) error { clips = append(clips, k); return nil })
		if err != nil {
			t.Fatal(err)
		}
		type want struct {
			name            string
			from, len, said int
		}
		wants := []want{{"000001", 0, 199, 2}, {"A_000001", 10, c.least, 1}, {"B_000001", 150, 49, 1}, {"M000001", 0, c.least, 1}, {"A_000005", 0, 100, 1}, {"B_000005", 40, 60, 1}}
		if len(clips) != len(wants) || s.Clips != len(wants) || s.Captions != 7 || s.Motions != 5 || s.Listed != 6 || len(s.Skipped) != 5 {
			t.Fatalf("%d clips, summary %+v", len(clips), s)
		}
		for i, w := range wants {
			k := clips[i]
			if k.Name != w.name || k.Len != w.len || len(k.Captions) != w.said || k.Mirrored != strings.HasPrefix(w.name, "M") ||
				!slices.Equal(k.Rows, ramp1(300, c.width)[w.from*c.width:(w.from+w.len)*c.width]) {
				t.Errorf("clip %d is %s, %d rows, %d captions, first row %v; want %+v", i, k.Name, k.Len, len(k.Captions), k.Rows[:1], w)
			}
		}
		if got := []int{clips[0].Fit(), clips[2].Fit()}; !slices.Equal(got, []int{196, 48}) {
			t.Errorf("lengths for models %v, want 196 and 48", got)
		}
		first := clips[0].Captions
		if first[0].Text != "a man kicks." || !slices.Equal(first[0].Words, []Word{{"a", "DET"}, {"man", "NOUN"}, {"kick", "VERB"}}) || !first[1].Whole() ||
			first[1].Words[1] != (Word{"kick/boxes", "VERB"}) {
			t.Errorf("captions %+v", first)
		}
		for i, why := range []string{"the part of caption 4", "200 rows", fmt.Sprintf("has %d rows; want %d to 199", c.least-1, c.least), "000004.npy", "has 0 rows"} {
			if !strings.Contains(s.Skipped[i].Reason, why) {
				t.Errorf("skip %d: %+v, want %q", i, s.Skipped[i], why)
			}
		}
		rows := slices.Clone(clips[1].Rows)
		if err := kin.Normalize(f.Stats, rows); err != nil || rows[5] != (clips[1].Rows[5]-5)/2 {
			t.Errorf("normalised %v, %v", rows[5], err)
		}
	}
}

// TestFolderOfOurs: clips of the set written as such a folder come back, and its own
// statistics are those of its rows.
func TestFolderOfOurs(t *testing.T) {
	dir := t.TempDir()
	set := New(data.DefaultSeed)
	sums := kin.NewSums(kin.HumanML3D)
	names := ""
	for i := range 20 {
		it := set.At(data.Train, i)
		rows := it.Rows(kin.HumanML3D)
		if err := sums.Add(rows); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%06d", i)
		names += name + "\n"
		writeArray(t, dir, "new_joint_vecs/"+name+".npy", tensor.FromF32(rows, it.Len(), 263))
		text := ""
		for _, c := range it.Captions() {
			text += c + "#" + strings.Join(strings.Fields(c), "/X ") + "/X#0.0#0.0\n"
		}
		write(t, dir, "texts/"+name+".txt", text)
	}
	write(t, dir, "train.txt", names)
	_, err := OpenFolder(dir)
	wantError(t, "no statistics", err, "no Mean.npy and Std.npy")
	f, err := OpenBare(dir)
	if err != nil || f.Layout != kin.HumanML3D {
		t.Fatal(f, err)
	}
	stats, err := f.ComputeStats(t.Context(), "train")
	if err != nil {
		t.Fatal(err)
	}
	want, err := sums.Stats()
	if err != nil || !slices.Equal(stats.Mean, want.Mean) || !slices.Equal(stats.Std, want.Std) {
		t.Errorf("statistics differ from those of the rows, %v", err)
	}
	if err := f.WriteStats(stats); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteStats(stats); err == nil {
		t.Error("statistics are overwritten")
	}
	f = open(t, dir)
	if math.Abs(f.Stats.Mean[3]-stats.Mean[3]) > 1e-6 || math.Abs(f.Stats.Std[100]-stats.Std[100]) > 1e-6 {
		t.Error("statistics change on the way through the files")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, threads := range []int{1, 4} {
		runtime.GOMAXPROCS(threads)
		i := 0
		s, err := f.Each(t.Context(), "train", func(k Clip) error {
			it := set.At(data.Train, i)
			if !slices.Equal(k.Rows, it.Rows(kin.HumanML3D)) || k.Captions[2].Text != it.Captions()[2] || k.Fit() != it.Len() {
				t.Errorf("clip %d is not the set's", i)
			}
			joints, err := FromRows(k.Rows, 263)
			if err != nil {
				t.Fatal(err)
			}
			if a, err := Score(k.Captions[0].Text, read(t, joints)); err != nil || !a.All {
				t.Errorf("clip %d: %+v, %v", i, a, err)
			}
			i++
			return nil
		})
		if err != nil || s.Clips != 20 || s.Captions != 60 || len(s.Skipped) > 0 {
			t.Errorf("%+v, %v", s, err)
		}
	}
	stop := errors.New("stop")
	if _, err := f.Each(t.Context(), "train", func(Clip) error { return stop }); err != stop {
		t.Errorf("error of use: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Each(ctx, "train", func(Clip) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestBadFolders(t *testing.T) {
	good := func() string {
		dir := newFolder(t, 263, map[string]int{"000001": 60}, map[string]string{"000001": whole})
		write(t, dir, "train.txt", "000001\n")
		return dir
	}
	opened := func(edit func(dir string)) error { dir := good(); edit(dir); _, err := OpenFolder(dir); return err }
	each := func(edit func(dir string)) error {
		dir := good()
		edit(dir)
		_, err := open(t, dir).Each(t.Context(), "train", func(Clip) error { return nil })
		return err
	}
	remove := func(name string) func(dir string) {
		return func(dir string) {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	array := func(name string, a *tensor.Array) func(dir string) {
		return func(dir string) { writeArray(t, dir, name, a) }
	}
	numbers := func(v float32, n int) *tensor.Array {
		x := make([]float32, n)
		for i := range x {
			x[i] = v
		}
		return tensor.FromF32(x, n)
	}
	motion := func(a *tensor.Array) error { return each(array("new_joint_vecs/000001.npy", a)) }
	bad := ramp1(60, 263)
	bad[263*7+5] = float32(math.NaN())
	listed := func(s string) error { return each(func(dir string) { write(t, dir, "train.txt", s) }) }
	said := func(s string) error { return each(func(dir string) { write(t, dir, "texts/000001.txt", s) }) }
	text := func(name, s string) func(dir string) { return func(dir string) { write(t, dir, name, s) } }
	_, none := OpenFolder(filepath.Join(t.TempDir(), "absent"))
	f := open(t, good())
	_, list := f.Names("dev")
	_, out := f.Names("../train")
	_, escape := f.Read("../../etc/passwd")
	_, absent := f.Read("000009")
	stats := func(edit func(dir string)) error {
		dir := good()
		edit(dir)
		_, err := open(t, dir).ComputeStats(t.Context(), "train")
		return err
	}
	for what, c := range map[string]struct {
		err  error
		want string
	}{
		"absent": {none, "no folder new_joint_vecs"}, "no texts": {opened(remove("texts")), "no folder texts"},
		"no mean": {opened(remove("Mean.npy")), "Std.npy is there but no Mean.npy"}, "no std": {opened(remove("Std.npy")), "Mean.npy is there but no Std.npy"},
		"zero std": {opened(array("Std.npy", numbers(0, 263))), "the deviation of channel 0 is 0"}, "NaN mean": {opened(array("Mean.npy", numbers(float32(math.NaN()), 263))), "mean of channel 0"},
		"widths": {opened(array("Std.npy", numbers(1, 251))), "251 deviations"}, "other width": {opened(array("Mean.npy", numbers(1, 260))), "rows of 260"},
		"small layout": {opened(array("Mean.npy", numbers(1, 67))), "want 263 (HumanML3D) or 251 (KIT)"}, "square mean": {opened(array("Mean.npy", tensor.FromF32(make([]float32, 263*2), 2, 263))), "one number of each channel"},
		"integer mean": {opened(array("Mean.npy", tensor.FromI64(make([]int64, 263), 263))), "elements of int64; want float32 or float64"}, "cut mean": {opened(text("Mean.npy", "\x93NUMPY")), "Mean.npy"},
		"width": {motion(tensor.FromF32(make([]float32, 60*251), 60, 251)), "want [rows, 263], the width of the folder's HumanML3D layout"}, "flat": {motion(numbers(0, 263)), "shape [263]"},
		"NaN": {motion(tensor.FromF32(bad, 60, 263)), "row 7, channel 5 is NaN"}, "integers": {motion(tensor.FromI64(make([]int64, 263), 1, 263)), "elements of int64"},
		"no rows": {motion(tensor.FromF32(nil, 0, 263)), "0 numbers"}, "short": {motion(tensor.FromF32(ramp1(39, 263), 39, 263)), "has 39 rows; want 40 to 199"}, "no array": {each(text("new_joint_vecs/000001.npy", "rows")), "000001.npy"},
		"no motion": {listed("000002\n"), "000002.npy"}, "empty list": {listed(" \n"), "no name in it"}, "twice": {listed("000001\n000002\n000001"), "line 3: 000001 is there before, on line 1"},
		"way out": {listed("../000001"), "no name of a motion"}, "binary list": {listed("a\x00b"), "no text in UTF-8"}, "no list": {list, "no such list; want one of train"}, "list outside": {out, `no list "../train"`},
		"escape": {escape, "no name of a motion"}, "not there": {absent, "000009.npy"},
		"no text": {each(remove("texts/000001.txt")), "000001.txt"}, "no caption": {said("\n"), "no caption in it"}, "fields": {said("a man kicks#a/DET#0.0\n"), "line 1: 3 fields"},
		"many fields": {said(whole + "a #1 man#a/DET#0#0"), "line 2: 5 fields"}, "no tag": {said("a man#a/DET man#0#0"), `word "man" has no tag`}, "empty tag": {said("a man#a/DET man/#0#0"), `word "man/" has no tag`},
		"no words": {said("#a/DET#0#0"), "no caption before"}, "time": {said("a#a/DET#x#0"), `start time "x"`}, "negative": {said("a#a/DET#0#-1"), `end time "-1"`}, "infinite": {said("a#a/DET#0#inf"), `end time "inf"`},
		"backwards": {said("a#a/DET#3#2"), "from 3 to 2 s"}, "latin": {said("caf\xe9#a/DET#0#0"), "no text in UTF-8"}, "part": {said("a#a/DET#0#1"), "the part of caption 1, 0 to 1 s, has 20 rows"}, "late": {said("a#a/DET#1e300#1e301"), "has 0 rows"},
		"statistics of nothing": {stats(text("train.txt", "000007\n")), "none of the 1 motions"}, "statistics of one row": {stats(array("new_joint_vecs/000001.npy", tensor.FromF32(ramp1(1, 263), 1, 263))), "never change"},
	} {
		wantError(t, what, c.err, c.want)
	}
	if !errors.Is(absent, fs.ErrNotExist) || !errors.Is(absent, imageio.ErrInput) {
		t.Errorf("a missing motion is %v", absent)
	}
	bare := t.TempDir()
	write(t, bare, "texts/a.txt", whole)
	write(t, bare, "new_joint_vecs/readme", "")
	_, err := OpenBare(bare)
	wantError(t, "nothing to go by", err, "no .npy there")
	writeArray(t, bare, "new_joint_vecs/a.npy", tensor.FromF32(make([]float32, 10), 10))
	_, err = OpenBare(bare)
	wantError(t, "flat first motion", err, "shape [10]")
	writeArray(t, bare, "new_joint_vecs/a.npy", tensor.FromF32(make([]float32, 67), 1, 67))
	_, err = OpenBare(bare)
	wantError(t, "small first motion", err, "rows of 67")
	_, err = ParseTexts("big.txt", make([]byte, maxTexts+1))
	wantError(t, "big", err, "want at most")
}

func TestPartNames(t *testing.T) {
	for k, want := range map[int]string{0: "A_x", 22: "W_x", 23: "A1_x", 47: "B2_x"} {
		if got := partName(k, "x"); got != want {
			t.Errorf("part %d is %s, want %s", k, got, want)
		}
	}
}

func FuzzTexts(f *testing.F) {
	for _, s := range []string{whole, "a#b/C#nan#nan\n", "#\n", "a#b/C d/#1#2", "\ufeffa##0#0", "a#/#0#0"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		captions, err := ParseTexts("x", b)
		if err != nil {
			if !errors.Is(err, imageio.ErrInput) {
				t.Fatalf("%v is no input error", err)
			}
			return
		}
		if len(captions) == 0 {
			t.Fatal("no captions and no error")
		}
		for _, c := range captions {
			if c.Text == "" || !(c.From >= 0) || math.IsInf(c.To, 0) || !c.Whole() && !(c.To > c.From) {
				t.Fatalf("%q gives %+v", b, c)
			}
		}
	})
}

func FuzzList(f *testing.F) {
	for _, s := range []string{"000001\nM000001\n", "a/b", "\r\n", "a\na"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := ParseList("x", b)
		if err != nil {
			return
		}
		for i, n := range names {
			if !filepath.IsLocal(n) || strings.ContainsAny(n, "/\\\n") || slices.Contains(names[:i], n) {
				t.Fatalf("%q gives %q", b, n)
			}
		}
	})
}
