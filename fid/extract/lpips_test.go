package extract

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/tensor"
)

// lpipsLast are the last convolutions in torchvision's lists, which scripts/golden/lpips.py makes small.
var lpipsLast = map[string]string{"alex": "features.10.", "vgg": "features.28.", "squeeze": "features.12.expand"}

// lpipsWeights are the tensors of scripts/golden/lpips.py: of the trunk by torchvision's names, and of the linear layers.
func lpipsWeights(net string, small float32) (trunk, linear []tensor.SafetensorsEntry) {
	i := slices.IndexFunc(lpipsTrunks, func(t *lpipsTrunk) bool { return t.name == net })
	t, salt := lpipsTrunks[i], "lpips "+net+" "
	for _, p := range t.spec.params {
		a := recipeTensor(salt, p.name, p.shape)
		if v := a.F32(); strings.HasPrefix(p.name, lpipsLast[net]) {
			for i := range v {
				v[i] *= small
			}
			a = tensor.FromF32(v, p.shape...)
		}
		trunk = append(trunk, tensor.SafetensorsEntry{Name: p.name, Array: a})
	}
	for _, p := range t.linearSpec().params {
		v := recipeTensor(salt, p.name, p.shape).F32()
		for i := range v {
			v[i] = float32(math.Abs(float64(v[i])))
		}
		linear = append(linear, tensor.SafetensorsEntry{Name: p.name, Array: tensor.FromF32(v, p.shape...)})
	}
	return trunk, linear
}

func lpipsPicture(text string, h, w int) *imageio.Image {
	u, m := uniformOf(text, 3*h*w, 0, 256), &imageio.Image{Width: w, Height: h, Pix: make([]uint8, 3*h*w)}
	for i, v := range u {
		m.Pix[i%(h*w)*3+i/(h*w)] = uint8(v)
	}
	return m
}

func openTestLPIPS(t *testing.T, net, rule string, small float32, pure bool) *LPIPS {
	t.Helper()
	trunk, linear := lpipsWeights(net, small)
	l, err := OpenLPIPS(LPIPSOptions{Net: net, Rule: rule, Weights: writeTensors(t, trunk), Linear: writeTensors(t, linear), Pure: pure})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// The peers are the lpips package and torchmetrics, in float64 (scripts/golden/lpips.py): sizes that pools cut unevenly, and a map
// whose vectors are so short that the two differ.
func TestLPIPSGolden(t *testing.T) {
	var g struct {
		Cases []struct {
			Peer, Net     string
			Height, Width int
			Small, Value  float64
			Layers        []float64
		}
	}
	oracle.GoldenJSON(t, &g, "lpips", "distances.json")
	worst, apart := 0.0, 0
	for i, c := range g.Cases {
		for _, pure := range []bool{false, true} {
			if pure && c.Peer != "lpips" {
				continue // what differs between peers is after the network
			}
			what := fmt.Sprintf("%s %s %d×%d, small %g, pure %t", c.Peer, c.Net, c.Height, c.Width, c.Small, pure)
			l := openTestLPIPS(t, c.Net, c.Peer, float32(c.Small), pure)
			text := fmt.Sprintf("lpips %s %d %d ", c.Net, c.Height, c.Width)
			layers := make([]float64, l.Layers())
			got, err := l.Pictures(nil, lpipsPicture(text+"a", c.Height, c.Width), lpipsPicture(text+"b", c.Height, c.Width), layers)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if len(layers) != len(c.Layers) {
				t.Fatalf("%s: %d layers, want %d", what, len(layers), len(c.Layers))
			}
			off := math.Abs(got-c.Value) / c.Value
			for k, v := range layers {
				off = max(off, math.Abs(v-c.Layers[k])/c.Layers[k])
			}
			if worst = max(worst, off); !(off <= 1e-5) {
				t.Errorf("%s: %.9g in %v, want %.9g in %v: off by %.2g", what, got, layers, c.Value, c.Layers, off)
			}
		}
		if i > 0 && c.Peer == "torchmetrics" && math.Abs(c.Value-g.Cases[i-1].Value) > 1e-4*c.Value {
			apart++
		}
	}
	if len(g.Cases) != 20 || apart < 2 {
		t.Errorf("%d cases, %d of them apart by the rule; want 20 and 2 or more", len(g.Cases), apart)
	}
	t.Logf("%d cases, off by %.2g of a layer's share at most", len(g.Cases), worst)
}

// One file of everything, as lpips saves its state, gives the same; and a picture is at no distance of itself, nearer with less noise,
// and as far from another as that from it.
func TestLPIPSWholeFile(t *testing.T) {
	for _, net := range LPIPSNets {
		trunk, linear := lpipsWeights(net, 1)
		i := slices.IndexFunc(lpipsTrunks, func(t *lpipsTrunk) bool { return t.name == net })
		var all []tensor.SafetensorsEntry
		for _, e := range trunk {
			all = append(all, tensor.SafetensorsEntry{Name: lpipsTrunks[i].spec.namings[1].of(e.Name).parts[0], Array: e.Array})
		}
		for _, e := range linear {
			all = append(all, e, tensor.SafetensorsEntry{Name: strings.Replace(e.Name, "lin", "lins.", 1), Array: e.Array})
		}
		all = append(all, tensor.SafetensorsEntry{Name: "scaling_layer.shift", Array: tensor.FromF32(lpipsShift[:], 1, 3, 1, 1)})
		whole, err := OpenLPIPS(LPIPSOptions{Net: net, Weights: writeTensors(t, all)})
		if err != nil {
			t.Fatal(err)
		}
		defer whole.Close()
		two := openTestLPIPS(t, net, "", 1, false)
		a, b := lpipsPicture("a", 64, 64), lpipsPicture("b", 64, 64)
		far, err := whole.Pictures(nil, a, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		for what, pair := range map[string][2]*imageio.Image{"two files": {a, b}, "exchanged": {b, a}} {
			if d, err := two.Pictures(nil, pair[0], pair[1], nil); err != nil || math.Abs(d-far) > 1e-12 {
				t.Errorf("%s, %s: %v, %v; want %v", net, what, d, err, far)
			}
		}
		last := 0.0
		for _, share := range []int{0, 8, 32, 128} { // of 256 pixels' values are the other picture's
			c := &imageio.Image{Width: 64, Height: 64, Pix: slices.Clone(a.Pix)}
			for i := range c.Pix {
				if i*37%256 < share {
					c.Pix[i] = b.Pix[i]
				}
			}
			d, err := two.Pictures(nil, a, c, nil)
			if err != nil || share == 0 && d != 0 || share > 0 && !(d > last) {
				t.Errorf("%s: distance %v at %d, %v at the step before, %v", net, d, share, last, err)
			}
			last = d
		}
	}
}

// More sizes than are kept, asked for from many goroutines: the same bits as one by one.
func TestLPIPSSizes(t *testing.T) {
	l := openTestLPIPS(t, "alex", "", 1, false)
	const sizes, rounds = lpipsPlans + 3, 4
	var alone [sizes]float64
	pair := func(i int) (a, b *imageio.Image) { return lpipsPicture("a", 64+i, 64), lpipsPicture("b", 64+i, 64) }
	for i := range alone {
		a, b := pair(i)
		var err error
		if alone[i], err = l.Pictures(nil, a, b, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.plans) > lpipsPlans {
		t.Errorf("%d sizes are kept, want at most %d", len(l.plans), lpipsPlans)
	}
	var got [sizes * rounds]float64
	cpu.Each(len(got), func(w *cpu.Worker, k int) {
		a, b := pair(k % sizes)
		got[k], _ = l.Pictures(w, a, b, nil)
	})
	for k, v := range got {
		if v != alone[k%sizes] {
			t.Errorf("size %d: %v at once, %v alone", k%sizes, v, alone[k%sizes])
		}
	}
}

func TestLPIPSRefuses(t *testing.T) {
	trunk, linear := lpipsWeights("alex", 1)
	vggTrunk, vggLinear := lpipsWeights("vgg", 1)
	nowhere := func(string) string { return t.TempDir() }
	good, lin := writeTensors(t, trunk), writeTensors(t, linear)
	change := func(of []tensor.SafetensorsEntry, f func(e []tensor.SafetensorsEntry) []tensor.SafetensorsEntry) string {
		return writeTensors(t, f(slices.Clone(of)))
	}
	negative := change(linear, func(e []tensor.SafetensorsEntry) []tensor.SafetensorsEntry {
		v := slices.Clone(e[1].Array.F32())
		v[3] = -0.5
		e[1].Array = tensor.FromF32(v, e[1].Array.Shape...)
		return e
	})
	nan := change(trunk, func(e []tensor.SafetensorsEntry) []tensor.SafetensorsEntry {
		v := slices.Clone(e[1].Array.F32())
		v[0] = float32(math.NaN())
		e[1].Array = tensor.FromF32(v, e[1].Array.Shape...)
		return e
	})
	short := change(trunk, func(e []tensor.SafetensorsEntry) []tensor.SafetensorsEntry { return e[:9] })
	for what, c := range map[string]struct {
		o    LPIPSOptions
		want []string
	}{
		"no linear layers": {LPIPSOptions{Net: "alex", Weights: good, Getenv: nowhere}, []string{"without LPIPS' linear layers", "--linear", "v0.1/alex.pth"}},
		"missing":          {LPIPSOptions{Net: "alex", Weights: short, Linear: lin}, []string{"features.10.bias [256] is missing", "tensors 9 fit, 1 are missing"}},
		"another trunk":    {LPIPSOptions{Net: "alex", Weights: writeTensors(t, vggTrunk), Linear: lin}, []string{"it looks like vgg16's convolutions"}},
		"other linear":     {LPIPSOptions{Net: "alex", Weights: good, Linear: writeTensors(t, vggLinear)}, []string{"lin1.model.1.weight is [1 128 1 1], want [1 192 1 1]"}},
		"negative":         {LPIPSOptions{Net: "alex", Weights: good, Linear: negative}, []string{"lin1.model.1.weight has -0.5 at place 3", "never negative"}},
		"not finite":       {LPIPSOptions{Net: "alex", Weights: nan, Linear: lin}, []string{"features.0.bias has NaN at place 0"}},
		"no file":          {LPIPSOptions{Net: "alex", Weights: filepath.Join(t.TempDir(), "no.pth")}, []string{"no.pth"}},
		"nowhere":          {LPIPSOptions{Net: "vgg", Getenv: nowhere}, []string{"vgg16-397923af.pth is not in"}},
		"net":              {LPIPSOptions{Net: "resnet"}, []string{`no network "resnet"; there are alex, vgg, squeeze`}},
		"rule":             {LPIPSOptions{Rule: "mine"}, []string{`no rule "mine"`, "torchmetrics"}},
	} {
		_, err := OpenLPIPS(c.o)
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v; want %q in it", what, err, w)
			}
		}
	}
	l := openTestLPIPS(t, "alex", "", 1, false)
	if !strings.Contains(l.Info().Note, "not the published 7be5be79") || !strings.Contains(l.Info().Note, "not the published df73285e") {
		t.Errorf("note %q", l.Info().Note)
	}
	for want, pair := range map[string][2]*imageio.Image{
		"want one size":        {lpipsPicture("a", 64, 64), lpipsPicture("a", 64, 65)},
		"do not fit alex":      {lpipsPicture("a", 16, 16), lpipsPicture("a", 16, 16)},
		"pictures of 64×8 do ": {lpipsPicture("a", 8, 64), lpipsPicture("a", 8, 64)},
	} {
		if _, err := l.Pictures(nil, pair[0], pair[1], nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	x := make([]float32, 6*64*64)
	x[5] = float32(math.Inf(1))
	if _, err := l.Planes(nil, x, 64, 64, nil); err == nil || !strings.Contains(err.Error(), "+Inf at place 5") {
		t.Errorf("%v", err)
	}
}
