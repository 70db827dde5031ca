package street

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
)

func appendFloats(b []byte, x []float32) []byte {
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// rebuild makes the views of a truth that was read back, without their colours.
func (t *Truth) rebuild(scale int) (*Frame, error) {
	if t.Set != name {
		return nil, data.Errorf("street: the truth is of the set %q; want one of street", t.Set)
	}
	if len(t.Occ) != NX*NY*NZ {
		return nil, data.Errorf("street: truth: %d voxels; want %d×%d×%d", len(t.Occ), NX, NY, NZ)
	}
	f := &Frame{Night: t.Night, Caption: t.Caption, Boxes: t.Boxes, Cams: Cameras(scale), view: -1}
	for n, v := range t.Occ {
		if v >= Classes {
			return nil, data.Errorf("street: truth: voxel %d has class %d; want 0 to %d", n, v, Classes-1)
		}
		f.Occ[n/(NY*NZ)][n/NZ%NY][n%NZ] = v
	}
	if len(t.Cams) != Views {
		return nil, data.Errorf("street: truth: %d cameras; want %d: %v", len(t.Cams), Views, ViewNames)
	}
	for i := range t.Cams {
		c := t.Cams[i].camera()
		if err := c.Check(); err != nil {
			return nil, data.Errorf("street: truth: camera %d: %w", i, err)
		}
		// The pose is the truth's, the size of the picture that of what is read.
		f.Cams[i].Rt = c.Rt
	}
	for i, b := range t.Boxes {
		if b.Cls < Car || b.Cls > Pedestrian || b.Inst < 1 || b.L < 1 || b.W < 1 || b.H < 1 || b.Yaw != 0 && b.Yaw != 90 {
			return nil, data.Errorf("street: truth: box %d is %+v; want a class of 1 to 3, a number and sizes of 1 or more, a yaw of 0 or 90", i, b)
		}
		low, high := b.Corners()
		for x := max(0, int(math.Floor(low.X))+reach); x < min(NX, int(math.Ceil(high.X))+reach); x++ {
			for y := max(0, int(math.Floor(low.Y))+reach); y < min(NY, int(math.Ceil(high.Y))+reach); y++ {
				for z := max(0, int(math.Floor(low.Z))+1); z < min(NZ, int(math.Ceil(high.Z))+1); z++ {
					f.Ids[x][y][z] = b.Inst
				}
			}
		}
	}
	for v := range f.Views {
		f.Views[v] = cast(&f.Cams[v], &f.Occ, &f.Ids, scale)
	}
	return f, nil
}

// checker adds up what a picture's views say against their truth.
type checker struct {
	overlap    Overlap
	hits, seen [Sizes]int // boxes in views, and those of which at least half was read
	wrongLight bool
	seams      []float64
}

// views cuts views side by side apart.
func views(m *label.Map) []*label.Map {
	w := m.H / Rows * Columns
	out := make([]*label.Map, m.W/w)
	for v := range out {
		out[v] = label.New(w, m.H)
		for y := range m.H {
			copy(out[v].IDs[y*w:(y+1)*w], m.IDs[y*m.W+v*w:])
		}
	}
	return out
}

// frame checks one frame: all views, or the one that the set shows.
func (c *checker) frame(img *imageio.Image, t *Truth, view int) ([]*label.Map, *Frame, error) {
	cls, night, err := Read(img)
	if err != nil {
		return nil, nil, err
	}
	got := views(cls)
	first, n := 0, Views
	if view >= 0 {
		first, n = view, 1
	}
	if len(got) != n {
		return nil, nil, data.Errorf("street: the picture shows %d views; want %d", len(got), n)
	}
	if n == Views {
		c.seams = append(c.seams, Seams([Views]*label.Map(got)))
	}
	if t == nil {
		return got, nil, nil
	}
	f, err := t.rebuild(img.Height / Rows)
	if err != nil {
		return nil, nil, err
	}
	c.wrongLight = c.wrongLight || night != t.Night
	for i, m := range got {
		c.overlap.Add(m, f.Views[first+i].Cls)
		for _, r := range f.Recalls(first+i, m) {
			c.seen[r.Size]++
			if r.Share >= 0.5 {
				c.hits[r.Size]++
			}
		}
	}
	return got, f, nil
}

// answer is good when the light is right, the classes' mean overlaps are at least
// 0.9 and no box that is seen is missed: ours.
func (c *checker) answer(truth bool) data.Check {
	a := data.Check{OK: true}
	if truth {
		fore, back := c.overlap.Foreground(), c.overlap.Background()
		a.OK = !c.wrongLight && fore >= 0.9 && back >= 0.9 && c.hits == c.seen
		a.Text = fmt.Sprintf("mIoU foreground %.3f, background %.3f", fore, back)
		if c.wrongLight {
			a.Text += ", wrong light"
		}
		for s, n := range SizeNames {
			a.Counts = append(a.Counts, data.Count{Name: "boxes " + n, Hits: c.hits[s], Of: c.seen[s]})
		}
		for cls := range Classes {
			a.Counts = append(a.Counts, data.Count{Name: "iou " + ClassNames[cls], Hits: c.overlap.Both[cls], Of: c.overlap.Either[cls]})
		}
	} else {
		a.Text = "read without truth"
	}
	if len(c.seams) > 0 {
		sum := 0.0
		for _, s := range c.seams {
			sum += s
		}
		a.Errors = append(a.Errors, data.Value{Name: "seams apart", Value: 1 - sum/float64(len(c.seams))})
	}
	return a
}

func (s *Set) check(g data.Given) (data.Check, error) {
	if len(g.Pictures) == 0 {
		return data.Check{}, data.Errorf("street: no picture; want the views side by side")
	}
	var t *Truth
	if g.Truth != nil {
		t = new(Truth)
		if err := json.Unmarshal(g.Truth, t); err != nil {
			return data.Check{}, data.Errorf("street: truth: %w", err)
		}
	}
	var c checker
	got, _, err := c.frame(g.Pictures[0].Image, t, s.view)
	if err != nil {
		return data.Check{}, err
	}
	a := c.answer(t != nil)
	a.Read = shares(got)
	return a, nil
}

// shares are the classes' shares of the pixels, by name.
func shares(m []*label.Map) map[string]float64 {
	out, n := map[string]float64{}, 0
	for _, v := range m {
		for _, k := range v.IDs {
			out[ClassNames[k]]++
			n++
		}
	}
	for _, k := range slices.Collect(maps.Keys(out)) {
		out[k] /= float64(n)
	}
	return out
}

func (s *Clips) check(g data.Given) (data.Check, error) {
	if len(g.Pictures) == 0 || g.Pictures[0].Image == nil {
		return data.Check{}, data.Errorf("street-clips: no picture; want %d frames one below the other", Frames)
	}
	img := g.Pictures[0].Image
	if img.Height%(Frames*Rows) != 0 || len(img.Pix) != 3*img.Width*img.Height {
		return data.Check{}, data.Errorf("street-clips: the picture is %d×%d pixels; want %d frames one below the other, of 16, 32 or 64 rows", img.Width, img.Height, Frames)
	}
	var t *ClipTruth
	if g.Truth != nil {
		t = new(ClipTruth)
		if err := json.Unmarshal(g.Truth, t); err != nil {
			return data.Check{}, data.Errorf("street-clips: truth: %w", err)
		}
		if t.Set != clipsName {
			return data.Check{}, data.Errorf("street-clips: the truth is of the set %q; want one of street-clips", t.Set)
		}
		if len(t.Frames) != Frames {
			return data.Check{}, data.Errorf("street-clips: truth: %d frames; want %d", len(t.Frames), Frames)
		}
	}
	var c checker
	got, want := make([][]*label.Map, Views), make([][]*label.Map, Views)
	h := img.Height / Frames
	for k := range Frames {
		var ft *Truth
		if t != nil {
			ft = &t.Frames[k]
		}
		part := &imageio.Image{Width: img.Width, Height: h, Pix: img.Pix[3*k*h*img.Width : 3*(k+1)*h*img.Width]}
		m, f, err := c.frame(part, ft, s.view)
		if err != nil {
			return data.Check{}, err
		}
		for i := range m {
			got[i] = append(got[i], m[i])
			if f != nil {
				want[i] = append(want[i], f.Views[max(0, s.view)+i].Cls)
			}
		}
	}
	a := c.answer(t != nil)
	if t != nil {
		var changes Changes
		for i := range got {
			if len(got[i]) > 0 {
				changes.Add(got[i], want[i])
			}
		}
		if changes.True > 0 { // a street where nothing moves has no error to relate to
			a.Errors = append(a.Errors, data.Value{Name: "change", Value: changes.Error()})
		}
	}
	return a, nil
}

// optionsOf reads the options of an input.
func optionsOf(set string, in map[string]string) (Options, error) {
	var o Options
	for _, k := range slices.Sorted(maps.Keys(in)) {
		switch v := in[k]; k {
		case "scale":
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 {
				return o, data.Errorf("%s: scale=%s; want 1, 2 or 4", set, v)
			}
			o.Scale = n
		case "view":
			o.View = v
			if v == "" {
				return o, data.Unknown(set, "view", v, ViewNames[:])
			}
		default:
			return o, data.Unknown(set, "option", k, []string{"n", "from", "seed", "scale", "view"})
		}
	}
	return o, nil
}

var entryOptions = []string{"scale=1|2|4: views of 16·scale×32·scale pixels (default 1)", "view=front|right|back|left: that view alone (default all four, side by side)"}

// Entry is the set of frames in the list of the command line.
var Entry = data.Entry{
	Name:    name,
	Golden:  golden,
	About:   "a small street of voxels seen by four cameras, 16×32 each, with boxes, lanes, classes, depth and captions",
	Options: entryOptions,
	Open: func(seed uint64, options map[string]string) (data.Served, error) {
		o, err := optionsOf(name, options)
		if err != nil {
			return nil, err
		}
		s, err := New(seed, o)
		if err != nil {
			return nil, err
		}
		return data.Serve(s, s.check), nil
	},
}

// ClipsEntry is the set of clips in the list of the command line.
var ClipsEntry = data.Entry{
	Name:    clipsName,
	Golden:  goldenClips,
	About:   "clips of 8 frames of the street, 4 a second, with moving ego and boxes",
	Options: entryOptions,
	Open: func(seed uint64, options map[string]string) (data.Served, error) {
		o, err := optionsOf(clipsName, options)
		if err != nil {
			return nil, err
		}
		s, err := NewClips(seed, o)
		if err != nil {
			return nil, err
		}
		return data.Serve(s, s.check), nil
	},
}
