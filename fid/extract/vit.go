package extract

import (
	"fmt"
	"math"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/nn/tower"
	"github.com/fidlab/fidlab/ops/netplan"
)

// vit is an extractor with a vision transformer: patches, a linear layer, places,
// blocks, and the first token's vector.
type vit struct {
	info   fid.ExtractorInfo
	batch  int
	size   int // of the input, a square
	patch  int
	front  int // tokens before those of the patches
	load   pictureLoader
	embed  tower.Dense // of a patch [3, patch, patch], without bias
	places []float32   // [tokens, width]: what is added to each token, the bias and the front tokens themselves
	net    *tower.Frozen
	unit   bool // vectors are scaled to length 1
	on     *vitOn

	mu   sync.Mutex
	idle []*vitScratch
}

// vitScratch is the memory of one Features call in flight.
type vitScratch struct {
	picture []float32 // [3, size, size]
	patches []float32 // [batch, tokens, 3·patch·patch], zeros at the front tokens
	x       []float32 // [batch, tokens, width]
	resize  imageio.Scratch
}

func (v *vit) Info() fid.ExtractorInfo { return v.info }

func (v *vit) Batch() int { return v.batch }

// Device implements fid.Placed.
func (v *vit) Device() string {
	if v.on != nil {
		return v.on.dev.String()
	}
	return "cpu"
}

func (v *vit) side() int { return v.size / v.patch }

func (v *vit) tokens() int { return v.front + v.side()*v.side() }

func (v *vit) take() *vitScratch {
	v.mu.Lock()
	defer v.mu.Unlock()
	if k := len(v.idle); k > 0 {
		s := v.idle[k-1]
		v.idle = v.idle[:k-1]
		return s
	}
	rows := v.batch * v.tokens()
	s := &vitScratch{picture: make([]float32, 3*v.size*v.size), patches: make([]float32, rows*v.embed.In)}
	if v.on == nil {
		s.x = make([]float32, rows*v.embed.Out)
	}
	return s
}

func (v *vit) give(s *vitScratch) {
	v.mu.Lock()
	v.idle = append(v.idle, s)
	v.mu.Unlock()
}

func (v *vit) Features(w *cpu.Worker, imgs []*imageio.Image, out []float32) error {
	mustFit(v.info, v.info.Dim, v.batch, imgs, out)
	if w == nil {
		var err error
		cpu.Do(func(w *cpu.Worker) { err = v.features(w, imgs, out) })
		return err
	}
	return v.features(w, imgs, out)
}

func (v *vit) features(w *cpu.Worker, imgs []*imageio.Image, out []float32) error {
	s := v.take()
	defer v.give(s)
	n, l := len(imgs), v.tokens()
	for i, img := range imgs {
		v.load(s.picture, img, &s.resize)
		v.cut(s.patches[i*l*v.embed.In:][:l*v.embed.In], s.picture)
	}
	return v.run(w, s, n, out)
}

// cut lays the patches of a picture out as rows, after those of the front tokens.
func (v *vit) cut(rows, picture []float32) {
	side, p := v.side(), v.patch
	for i := range side * side {
		row := rows[(v.front+i)*v.embed.In:][:v.embed.In]
		y, x := i/side*p, i%side*p
		for c := range 3 {
			for r := range p {
				copy(row[(c*p+r)*p:][:p], picture[(c*v.size+y+r)*v.size+x:])
			}
		}
	}
}

// run computes the vectors of n pictures whose patches are laid out.
func (v *vit) run(w *cpu.Worker, s *vitScratch, n int, out []float32) error {
	l := v.tokens()
	if v.on != nil {
		if err := v.on.run(s.patches[:n*l*v.embed.In], out); err != nil {
			return fmt.Errorf("extract: %s: %w", v.info.Name, err)
		}
		if v.unit {
			unitRows(out, v.info.Dim)
		}
		return nil
	}
	x := s.x[:n*l*v.embed.Out]
	v.embed.Apply(w, n*l, x, s.patches)
	all := l * v.embed.Out
	cpu.PairRows(cpu.PairAdd, false, n, all, x, all, x, all, 1, v.places, 0, 1)
	v.net.Run(w, x, n, l, nil, out)
	if v.unit {
		unitRows(out, v.info.Dim)
	}
	return nil
}

// place moves the network to the options' device, where that is a GPU.
func (v *vit) place(o Options) error {
	if !o.gpu() {
		return nil
	}
	if o.Batch == 0 {
		v.batch = netplan.DefaultBatch
	}
	on, err := newVitOn(o.Device, v)
	if err != nil {
		return fmt.Errorf("extract: %s: %w", v.info.Name, err)
	}
	v.on = on
	return nil
}

// vitBatch is how many pictures a call takes: fewer where they have many tokens.
func vitBatch(o Options, tokens, width int) int {
	switch {
	case o.Batch > 0:
		return o.Batch
	case tokens > 400 || width > 1024:
		return plan.DefaultBatch / 2
	}
	return plan.DefaultBatch
}

// unitRows scales rows of d values to length 1, in float64 on the way; a row of zeros stays.
func unitRows(v []float32, d int) {
	for i := 0; i < len(v); i += d {
		row, sum := v[i:i+d], 0.0
		for _, x := range row {
			sum += float64(x) * float64(x)
		}
		if sum == 0 {
			continue
		}
		k := 1 / math.Sqrt(sum)
		for j, x := range row {
			row[j] = float32(float64(x) * k)
		}
	}
}
