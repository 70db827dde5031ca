package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/data/motion"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/internal/cpu"
	kin "github.com/fidlab/fidlab/motion"
	"github.com/fidlab/fidlab/tensor"
)

// clipSet are clips of rows of 263 numbers, which are no pictures.
type clipSet struct {
	about string
	n     int
	// clip is the name and the rows of clip i.
	clip func(i int) (name string, rows []float32, err error)
}

// motions tells whether sets are motions: by --features, or where there is none by an argument motion:….
func (x *extraction) motions(args ...string) bool {
	if _, ok := extract.Find(extract.MotionName); !ok {
		return false
	}
	if x.features == "" && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "motion:") }) {
		x.features = extract.MotionName
	}
	return x.features == extract.MotionName
}

// openSet is openInput for commands that take motions too: beside are their other sets. Motions
// become feature vectors at once.
func (a *app) openSet(ctx context.Context, x *extraction, arg string, beside ...string) (*input, error) {
	if !x.motions(append(beside, arg)...) {
		return a.openInput(ctx, arg, x)
	}
	switch strings.ToLower(filepath.Ext(arg)) {
	case ".npz":
		if is, err := hasStats(arg); err != nil {
			return nil, &inputError{err}
		} else if is {
			return a.openInput(ctx, arg, x)
		}
	case ".npy":
		if is, err := hasFeatures(arg); err != nil {
			return nil, &inputError{err}
		} else if is {
			return a.openInput(ctx, arg, x)
		}
	case ".pkl":
		return a.openInput(ctx, arg, x)
	}
	set, err := openClips(arg)
	if err != nil {
		return nil, err
	}
	s, err := a.clipStats(ctx, x, set)
	if err != nil {
		return nil, err
	}
	return &input{arg: arg, stats: s, motions: true}, nil
}

// openClips finds the clips of an argument: of the generated set, a folder, an archive or an array.
func openClips(arg string) (*clipSet, error) {
	if rest, ok := strings.CutPrefix(arg, "motion:"); ok {
		return generatedClips(rest)
	}
	st, err := os.Stat(arg)
	if err != nil {
		return nil, inputf("%w; %s takes motions: motion:test, or a folder, .npz or .npy of rows of 263 numbers", err, extract.MotionName)
	}
	var lines []truthLine
	switch ext := strings.ToLower(filepath.Ext(arg)); {
	case st.IsDir():
		dir := arg
		if sub := filepath.Join(arg, "new_joint_vecs"); isDir(sub) {
			dir = sub
		}
		lines, err = listArrays(dir)
	case ext == ".npz":
		lines, err = archiveArrays(arg)
	case ext == ".npy":
		var x *tensor.Array
		if x, err = tensor.ReadNPY(arg); err == nil {
			lines = cutArray(filepath.Base(arg), x)
		}
	default:
		err = fmt.Errorf("%s: no motions; want motion:test, or a folder, .npz or .npy of rows of 263 numbers", arg)
	}
	if err != nil {
		return nil, &inputError{err}
	}
	return &clipSet{fmt.Sprintf("%s (%d clips)", arg, len(lines)), len(lines), func(i int) (string, []float32, error) {
		rows, err := clipRows(lines[i].array)
		return lines[i].Files[0].Path, rows, err
	}}, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// generatedClips are those of "test?n=100&from=50&seed=2".
func generatedClips(arg string) (*clipSet, error) {
	r, err := data.ParseArgs("motion", arg)
	if err != nil {
		return nil, err
	}
	s, err := motion.Entry.Open(r.Seed, r.Options)
	if err != nil {
		return nil, err
	}
	if r.Options["layout"] == "67" {
		return nil, inputf("motion:%s: rows of 67 numbers; %s takes those of 263: leave layout out", arg, extract.MotionName)
	}
	if err := r.Resolve(s); err != nil {
		return nil, err
	}
	set := motion.New(r.Seed)
	return &clipSet{fmt.Sprintf("motion:%s (%d clips)", arg, r.N), r.N, func(i int) (string, []float32, error) {
		return fmt.Sprintf("motion:%s/%05d", r.Split, r.From+i), set.At(r.Split, r.From+i).Rows(kin.HumanML3D), nil
	}}, nil
}

// archiveArrays are the arrays of an .npz by name.
func archiveArrays(path string) (lines []truthLine, err error) {
	z, err := tensor.OpenNPZ(path)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	for _, name := range z.Names() {
		x, err := z.Read(name)
		if err != nil {
			return nil, err
		}
		lines = append(lines, cutArray(name, x)...)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s: no arrays in it; want rows of 263 numbers", path)
	}
	return lines, nil
}

// clipRows are the rows of an array [T, 263] or [1, T, 263], without rows of zeros at its end, which no
// body has: they are padding.
func clipRows(x *tensor.Array) ([]float32, error) {
	shape := x.Shape
	for len(shape) > 2 && shape[0] == 1 {
		shape = shape[1:]
	}
	width := kin.HumanML3D.Width
	if len(shape) != 2 || shape[1] != width {
		return nil, fmt.Errorf("an array of shape %v; want [rows, %d]", x.Shape, width)
	}
	if x.DType != tensor.F32 && x.DType != tensor.F64 {
		return nil, fmt.Errorf("elements of %s; want float32 or float64", x.DType)
	}
	rows := x.F32()
	for len(rows) > 0 && !slices.ContainsFunc(rows[len(rows)-width:], func(v float32) bool { return v != 0 }) {
		rows = rows[:len(rows)-width]
	}
	return rows, nil
}

// clipStats are the statistics of the features of clips; the features are kept.
func (a *app) clipStats(ctx context.Context, x *extraction, set *clipSet) (*fid.Stats, error) {
	precision, err := precisionOf(x.precision)
	if err != nil {
		return nil, err
	}
	e, err := extract.OpenMotion(extract.Options{Preset: x.preset, Weights: x.weights, Parts: x.parts, Precision: precision})
	if err != nil {
		return nil, usagef("%w", err)
	}
	info, n := e.Info(), set.n
	if x.max > 0 {
		n = min(n, x.max)
	}
	a.say("features: %s, preset %s, %s on cpu with %d threads", info.Name, info.Preset, info.Precision, cpu.Workers())
	p := a.progress("features of "+set.about, "clips", n)
	defer p.End()
	const step = 64
	var rows []float32
	skipped := 0
	for from := 0; from < n; from += step {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		k := min(step, n-from)
		got, bad := make([][]float32, k), make([]error, k)
		cpu.Each(k, func(_ *cpu.Worker, i int) {
			name, clip, err := set.clip(from + i)
			if err == nil {
				got[i] = make([]float32, info.Dim)
				err = e.Features(clip, got[i])
			}
			if err != nil {
				bad[i] = inputf("%s: %w", name, err)
			}
		})
		for i := range k {
			switch {
			case bad[i] == nil:
				rows = append(rows, got[i]...)
			case !x.skipBad:
				return nil, bad[i]
			default:
				skipped++
				a.say("left out: %v", bad[i])
			}
		}
		p.Set(from + k)
	}
	if len(rows) == 0 {
		return nil, inputf("%s: no clip is left", set.about)
	}
	s, err := fid.FromFeatures(rows, len(rows)/info.Dim, info.Dim)
	if err != nil {
		return nil, err
	}
	s.Provenance = &fid.Provenance{Version: version, Input: set.about, Extractor: info, Device: "cpu", Skipped: skipped}
	return s, nil
}
