package arflow

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/rng"
	"github.com/fidlab/fidlab/train"
)

// numbered is pictures of tiny's shape, each of its own number, in groups of these sizes.
func numbered(sizes ...int) *train.Examples {
	e := &train.Examples{Shape: []int{2, 4, 6}}
	for class, n := range sizes {
		for range n {
			for range 48 {
				e.X = append(e.X, float32(len(e.Labels)))
			}
			e.Labels = append(e.Labels, int32(class))
		}
	}
	return e
}

// Pictures of a sequence are different ones of one group, in any order; all groups come, whatever their sizes.
func TestSequencesAreOfOneGroup(t *testing.T) {
	for _, length := range []int{1, 3, 5} {
		e := numbered(50, 5, 8)
		g, err := NewGroups(e, length)
		if err != nil {
			t.Fatal(err)
		}
		at, seen, first, rising := make([]int32, length), map[int32]int{}, map[int32]bool{}, 0
		const draws = 3000
		for i := range draws {
			group := g.Draw(rng.ForImage(1, uint64(i), rng.Order), at)
			for j, k := range at {
				if int(e.Labels[k]) != group || slices.Contains(at[:j], k) {
					t.Fatalf("sequence %d is %v of group %d", i, at, group)
				}
				first[k] = first[k] || j == 0
			}
			seen[e.Labels[at[0]]]++
			if slices.IsSorted(at) {
				rising++
			}
		}
		for class, n := range seen {
			if math.Abs(float64(n)-draws/3) > 150 { // six deviations
				t.Errorf("length %d: group %d came %d times of %d", length, class, n, draws)
			}
		}
		if len(first) != 63 {
			t.Errorf("length %d: %d of 63 pictures came first", length, len(first))
		}
		if length == 3 && math.Abs(float64(rising)-draws/6) > 130 {
			t.Errorf("%d of %d sequences are in the order of the set, want a sixth", rising, draws)
		}
	}
}

func TestGroupsRefuse(t *testing.T) {
	none := numbered(3)
	none.Labels = nil
	for want, f := range map[string]func() (*Groups, error){
		"class 1 has 4 pictures; want 5 at least": func() (*Groups, error) { return NewGroups(numbered(9, 4), 5) },
		"sequences of 0 pictures; want 1 or more": func() (*Groups, error) { return NewGroups(numbered(9), 0) },
		"pictures without labels":                 func() (*Groups, error) { return NewGroups(none, 2) },
	} {
		if _, err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// What the network is shown is the formula's: times of a sequence rise, x = t·x1 + (1-t)·x0 and v = x1 - x0 of noise that is each
// picture's own, one class for the sequence, none for a share of them; and the loss is their mean squared error.
func TestLossIsTheFormula(t *testing.T) {
	c := tiny()
	net := stirred(gpu.CPU(), gpu.Float32, c)
	e := numbered(40, 40, 40)
	g, err := NewGroups(e, 5)
	if err != nil {
		t.Fatal(err)
	}
	const batch, length, size = 200, 5, 48
	l := NewLoss(net, g, length, batch, 0.1)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	b := &train.Batch{Tape: tape, First: 7, Size: batch, Seeds: train.SeedsOf(3)}
	l.fill(b)
	var untold, early, late float64
	noises := map[float32]bool{}
	for i := range batch {
		var pictures []float32
		class := l.classes.I32()[i*length]
		if class == 3 {
			untold++
		}
		for j := range length {
			k := i*length + j
			at := l.time.Values[k]
			if j > 0 && at < l.time.Values[k-1] {
				t.Fatalf("times of sequence %d fall: %v", i, l.time.Values[i*length:][:length])
			}
			x, v := l.x.Values[k*size:][:size], l.target.Values[k*size:][:size]
			// x + (1-t)·v = x1, a picture of one number; x - t·v = x0.
			number := x[0] + (1-at)*v[0]
			for p := range size {
				if math.Abs(float64(x[p]+(1-at)*v[p]-number)) > 1e-3 {
					t.Fatalf("picture %d of sequence %d is not on a line to its end", j, i)
				}
			}
			number = float32(math.Round(float64(number)))
			if slices.Contains(pictures, number) {
				t.Fatalf("sequence %d has picture %v twice", i, number)
			}
			pictures = append(pictures, number)
			if got := l.classes.I32()[k]; got != class || class != 3 && int(class) != int(number)/40 {
				t.Fatalf("picture %v of sequence %d is told class %d, its first %d", number, i, got, class)
			}
			noises[x[0]-at*v[0]] = true
			if j == 0 {
				early += float64(at) / batch
			} else if j == length-1 {
				late += float64(at) / batch
			}
		}
	}
	if len(noises) < batch*length-2 {
		t.Errorf("%d noises of %d pictures", len(noises), batch*length)
	}
	// The first of five uniform numbers in order is 1/6 in the mean, the last 5/6.
	if math.Abs(early-1./6) > 0.06 || math.Abs(late-5./6) > 0.06 || math.Abs(untold/batch-0.1) > 0.07 {
		t.Errorf("first times %g, last %g, a share %g is told no class", early, late, untold/batch)
	}
	tape.Run(func() {
		y := net.Sequence(tape.Input(l.x.Send()), tape.Input(l.time.Send()), models.Inputs{Classes: l.classes}, length)
		got, want := values(t, y), 0.0
		for i, v := range got {
			d := v - float64(l.target.Values[i])
			want += d * d / float64(len(got))
		}
		if loss := l.Of(b).Item(); math.Abs(loss-want) > 1e-4*want {
			t.Errorf("loss %g, by the formula %g", loss, want)
		}
	})
}

// The probe is what it says: of a network whose past is stilled, pictures after others are those alone; else they are not, and the
// numbers are those of a loop over single sequences.
func TestProbe(t *testing.T) {
	c := tiny()
	net := stirred(gpu.CPU(), gpu.Float32, c)
	e := &train.Examples{Shape: []int{2, 4, 6}, X: oracle.Normal(4, 90*48)}
	for i := range 90 {
		e.Labels = append(e.Labels, int32(i%3))
	}
	g, err := NewGroups(e, 4)
	if err != nil {
		t.Fatal(err)
	}
	p := Probe{Length: 4, N: 70, Times: []float64{0.2, 0.7}, Seed: 5}
	l, err := Losses(t.Context(), net, g, p)
	if err != nil {
		t.Fatal(err)
	}
	if l.After == l.Alone || l.Other == l.After || !(l.Alone > 0 && l.After > 0 && l.Other > 0) {
		t.Errorf("%+v", l)
	}
	again, err := Losses(t.Context(), net, g, p)
	if err != nil || again != l {
		t.Errorf("%+v again, %v", again, err)
	}
	for _, b := range net.blocks { // the values of the past are nothing
		b.v.W.Value.Set(make([]float32, b.v.W.Value.Len()))
	}
	if l, err = Losses(t.Context(), net, g, p); err != nil || l.After != l.Alone || l.Other != l.After {
		t.Errorf("%+v without values, %v", l, err)
	}
	one, err := NewGroups(numbered(9), 4)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := Losses(t.Context(), net, one, p); err != nil || !math.IsNaN(l.Other) {
		t.Errorf("%+v of one group, %v", l, err)
	}
	p.Alone = true
	if only, err := Losses(t.Context(), net, g, p); err != nil || only.Alone != l.Alone || !math.IsNaN(only.After) || !math.IsNaN(only.Other) {
		t.Errorf("%+v alone, %v", only, err)
	}
	for want, bad := range map[string]Probe{
		"after sequences of 1":    {Length: 1, N: 1, Times: []float64{0}},
		"0 pictures at 1 times":   {Length: 2, Times: []float64{0}},
		"a picture at time 1;":    {Length: 2, N: 1, Times: []float64{1}},
		"1 pictures at 0 times":   {Length: 2, N: 1},
		"a picture at time -0.1;": {Length: 2, N: 1, Times: []float64{-0.1}},
	} {
		if _, err := Losses(t.Context(), net, g, bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if m := Matched(9); len(m) != 9 || math.Abs(m[0]-0.05) > 1e-12 || math.Abs(m[8]-0.85) > 1e-12 {
		t.Errorf("times %v", m)
	}
}

// Digits in styles: whole turns bring a digit back, strokes order it by ink, and labels say what was done.
func TestStyles(t *testing.T) {
	set, err := styleSet()
	if err != nil {
		t.Fatal(err)
	}
	e := set.held
	if e.Len() != 10000 || slices.Max(e.Labels) != Writers-1 {
		t.Fatalf("%d digits of %d writers", e.Len(), slices.Max(e.Labels)+1)
	}
	ink, count := make([]float64, Strokes), make([]float64, Strokes)
	writers := map[int32]int{}
	for i, l := range e.Labels {
		writers[l]++
		for _, v := range e.X[i*64:][:64] {
			if v < -1 || v > 1.0001 {
				t.Fatalf("a value %v", v)
			}
			ink[l/10%Strokes] += float64(v+1) / 2
		}
		count[l/10%Strokes]++
	}
	for i := range ink {
		ink[i] /= count[i]
	}
	if !(ink[0] < 0.9*ink[1] && ink[1] < 0.9*ink[2]) || len(writers) != Writers {
		t.Errorf("ink %v, %d writers", ink, len(writers))
	}
	var a, b, back [28 * 28]float32
	for i := range a {
		a[i] = float32(i % 7)
	}
	turned(&b, &a, math.Pi/2)
	for y := range 28 { // a quarter: what was in column x of row y
		for x := range 28 {
			if math.Abs(float64(b[y*28+x]-a[(27-x)*28+y])) > 1e-4 {
				t.Fatalf("a quarter turn at %d, %d", x, y)
			}
		}
	}
	turned(&back, &b, -math.Pi/2)
	for i := range a {
		if math.Abs(float64(back[i]-a[i])) > 1e-4 {
			t.Fatal("a quarter turn and back is another picture")
		}
	}
}
