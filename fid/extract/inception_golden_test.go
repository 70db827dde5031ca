package extract

import (
	"bytes"
	"fmt"
	"image"
	_ "image/png" // the pictures beside the golden values
	"math"
	"os"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/cuda"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/ops/netplan"
	"github.com/fidlab/fidlab/tensor"
)

var goldenTaps = []string{"64", "192", "768", "2048", "logits", "logits_unbiased"}

type goldenInception struct {
	Salt   string
	Images []struct {
		File          string
		PytorchFID    map[string]goldenTap `json:"pytorch_fid"`
		TorchFidelity map[string]goldenTap `json:"torch_fidelity"`
	}
	Parameters map[string]struct {
		Shape  []int
		Sum    float64
		First3 []float64
		Last   float64
	}
}

// goldenTap is a peer's values computed in float64; torch-fidelity returns them rounded to float32.
type goldenTap struct {
	Float64 []float64
	Rounded []float64 `json:"float64_internal_cast_to_float32"`
}

func loadGolden(t *testing.T) (g goldenInception, weights map[string]*tensor.Array) {
	oracle.GoldenJSON(t, &g, "inception", "cases.json")
	return g, recipeWeights(g.Salt)
}

func TestRecipeGolden(t *testing.T) {
	g, weights := loadGolden(t)
	if len(weights) != 472 || len(g.Parameters) != 472 {
		t.Fatalf("%d parameters made and %d golden ones; want 472", len(weights), len(g.Parameters))
	}
	for name, want := range g.Parameters {
		a := weights[name]
		if a == nil || !slices.Equal(a.Shape, want.Shape) {
			t.Fatalf("%s: made %v; want shape %v", name, a, want.Shape)
		}
		v, sum := a.F64(), 0.0
		for _, x := range v {
			sum += x
		}
		if math.Abs(sum-want.Sum) > 1e-9*math.Sqrt(float64(len(v))) || v[len(v)-1] != want.Last || !slices.Equal(v[:len(want.First3)], want.First3) {
			t.Errorf("%s: sum %v, first %v, last %v; want %v, %v, %v", name, sum, v[:3], v[len(v)-1], want.Sum, want.First3, want.Last)
		}
	}
}

// bilinear64 resizes channel c by the definition: half-pixel centres with
// clamped coordinates, or no shift at all.
func bilinear64(img image.Image, c int, halfPixel bool) []float64 {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	axis := func(o, size int) (i0, i1 int, f float64) {
		s := float64(o) * float64(size) / inceptionSize
		if halfPixel {
			s = max((float64(o)+0.5)*float64(size)/inceptionSize-0.5, 0)
		}
		i0 = int(s)
		return i0, min(i0+1, size-1), s - float64(i0)
	}
	at := func(x, y int) float64 {
		r, g, b, _ := img.At(b.Min.X+x, b.Min.Y+y).RGBA()
		return float64([]uint32{r, g, b}[c] >> 8)
	}
	var out []float64
	for y := range inceptionSize {
		y0, y1, fy := axis(y, h)
		for x := range inceptionSize {
			x0, x1, fx := axis(x, w)
			top, bottom := at(x0, y0)*(1-fx)+at(x1, y0)*fx, at(x0, y1)*(1-fx)+at(x1, y1)*fx
			out = append(out, top*(1-fy)+bottom*fy)
		}
	}
	return out
}

// goldenJob is a picture as a tool presents it to the network, and what the tool makes of it.
type goldenJob struct {
	what string
	in   []float32
	want map[string]goldenTap
}

func goldenJobs(t *testing.T, g *goldenInception) []goldenJob {
	t.Helper()
	var jobs []goldenJob
	for _, img := range g.Images {
		b, err := os.ReadFile(oracle.Golden(t, "inception", img.File))
		if err != nil {
			t.Fatal(err)
		}
		pic, _, err := image.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for _, half := range []bool{true, false} {
			j := goldenJob{img.File + " as torch-fidelity does", nil, img.TorchFidelity}
			scale, shift := 1.0/128, -1.0
			if half {
				j.what, j.want = img.File+" as pytorch-fid does", img.PytorchFID
				scale = 2.0 / 255
			}
			for c := range 3 {
				for _, v := range bilinear64(pic, c, half) {
					j.in = append(j.in, float32(v*scale+shift))
				}
			}
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// checkGolden runs the jobs on a network with those taps and compares them; it returns how many it compared. A value may be off by tol, and where
// rms is above 0 the values of a tap by that share of their size, as root mean squares, in its place.
func checkGolden(t *testing.T, p engine, taps []string, jobs []goldenJob, tol, rms float64) (cases int) {
	t.Helper()
	worst := map[string]float64{}
	outs := make([][][]float32, len(jobs))
	errs := make([]error, len(jobs))
	cpu.Each(len(jobs), func(w *cpu.Worker, k int) {
		for i := range taps {
			outs[k] = append(outs[k], make([]float32, p.OutLen(i)))
		}
		errs[k] = p.Run(w, jobs[k].in, outs[k]...)
	})
	for k, j := range jobs {
		if errs[k] != nil {
			t.Fatal(errs[k])
		}
		for i, tap := range taps {
			want := append(j.want[tap].Float64, j.want[tap].Rounded...)
			if len(want) != Taps[tap] {
				t.Fatalf("%s: %d golden values at tap %s; want %d", j.what, len(want), tap, Taps[tap])
			}
			cases++
			var shift, size float64
			for c, v := range outs[k][i] {
				d := math.Abs(float64(v) - want[c])
				shift, size = shift+d*d, size+want[c]*want[c]
				worst[tap] = max(worst[tap], d)
				if rms == 0 && !(d <= tol) {
					t.Fatalf("%s: tap %s, channel %d: %v; want %v", j.what, tap, c, v, want[c])
				}
			}
			if off := math.Sqrt(shift / size); rms > 0 && !(off <= rms) {
				t.Errorf("%s: tap %s: off by %.3g of its size; want at most %g", j.what, tap, off, rms)
			}
		}
	}
	t.Log(fmt.Sprint(worst))
	return cases
}

// TestInceptionGolden compares every tap with what pytorch-fid and
// torch-fidelity compute in float64 from the same weights. The tolerance is
// ten times the deviation of torch's own float32 run.
func TestInceptionGolden(t *testing.T) {
	g, weights := loadGolden(t)
	p, err := plan.Compile(inceptionNet(weights, goldenTaps...), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if n := checkGolden(t, p, goldenTaps, goldenJobs(t, &g), 1e-5, 0); n != 2*2*len(goldenTaps) {
		t.Errorf("%d cases; want %d", n, 2*2*len(goldenTaps))
	}
	t.Log(p.Engine())
}

// On a GPU the same network computes the same taps. The host device, which is slow, does one picture, and in other precisions the first layers alone.
func TestInceptionGoldenOnGPU(t *testing.T) {
	g, weights := loadGolden(t)
	jobs := goldenJobs(t, &g)
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		if !dev.CUDA() {
			return // the test above
		}
		if cuda.HostDevice() {
			jobs = jobs[:1]
		}
		for precision, rms := range map[plan.Precision]float64{plan.F32: 0, plan.SplitBF16: 2e-5, plan.BF16: 1e-2} {
			taps := goldenTaps
			if cuda.HostDevice() && precision != plan.F32 {
				taps = []string{"64"}
			}
			p, err := Options{Device: dev, Batch: 1, Precision: precision}.compile(inceptionNet(weights, taps...))
			if err != nil {
				t.Fatal(err)
			}
			if n := checkGolden(t, p, taps, jobs, 1e-5, rms); n != len(jobs)*len(taps) {
				t.Errorf("%d cases; want %d", n, len(jobs)*len(taps))
			}
			parameters, run := p.(*netplan.Plan).Memory()
			t.Logf("%v: %.1f MB of parameters, %.1f MB an image", precision, float64(parameters)/1e6, float64(run)/1e6)
			p.Close()
		}
	})
}
