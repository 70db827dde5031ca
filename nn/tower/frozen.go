package tower

import (
	"fmt"
	"math"
	"sync"

	"github.com/fidlab/fidlab/internal/cpu"
)

// FrozenConfig describes a transformer encoder that only computes.
type FrozenConfig struct {
	Width, Heads int
	Hidden       int // of the MLP, of SwiGLU each half
	Act          Act // GELU, QuickGELU or SwiGLU
	Eps          float64
	Causal       bool // a token sees those before it and itself
}

// Check says what is wrong with a configuration.
func (c FrozenConfig) Check() error {
	if c.Act == GELUTanh {
		return fmt.Errorf("tower: Frozen: Act is the approximated GELU, want GELU, QuickGELU or SwiGLU")
	}
	if c.Hidden < 1 || !(c.Eps > 0) {
		return fmt.Errorf("tower: Frozen: Hidden is %d and Eps %g, want both greater than 0", c.Hidden, c.Eps)
	}
	return BlockConfig{Width: c.Width, Heads: c.Heads, Hidden: c.Hidden, Act: c.Act, Eps: c.Eps}.Check()
}

// Dense is a linear layer, W [Out, In] and B [Out] or nil.
type Dense struct {
	In, Out int
	W, B    []float32
}

// FrozenNorm is a LayerNorm's weight and bias, [Width] both.
type FrozenNorm struct{ W, B []float32 }

// FrozenBlock are the weights of a block that norms before its layers: attention's three
// projections of queries, keys and values and the one after it, then the MLP's; Value is SwiGLU's
// second layer, empty elsewhere.
type FrozenBlock struct {
	Norm1, Norm2   FrozenNorm
	Q, K, V, Proj  Dense
	In, Value, Out Dense
}

// Scale multiplies what a layer returns, per output, by g [Out]: LayerScale costs nothing
// when it is part of the layer before it.
func (d *Dense) Scale(g []float32) {
	for o, s := range g {
		for i := range d.W[o*d.In : (o+1)*d.In] {
			d.W[o*d.In+i] *= s
		}
		if d.B != nil {
			d.B[o] *= s
		}
	}
}

// Apply sets y [rows, Out] to what the layer makes of x [rows, In], on worker w.
func (d *Dense) Apply(w *cpu.Worker, rows int, y, x []float32) {
	tiles(rows, func(r, n int) { denseTile(w, d, n, y[r*d.Out:], x[r*d.In:], cpu.FuncIdentity, false) })
}

func times(v []float32, s float64) {
	for i, x := range v {
		v[i] = float32(float64(x) * s)
	}
}

// Frozen is a transformer encoder for inference on the CPU: no tape, memory for one block, and
// of the last block no more than the vector that is asked for. The vector of a sequence of 16
// tokens or more is the same bits whatever else is in its batch, in which place it is, and on
// which worker it runs, where layers have 2^18 weights or more (smaller products go through
// other code of the libraries by their size).
type Frozen struct {
	config FrozenConfig
	blocks []FrozenBlock
	before *FrozenNorm
	after  FrozenNorm
	head   *Dense

	mu   sync.Mutex
	idle []*frozenScratch
}

// NewFrozen makes an encoder of blocks with a norm before them, where before is not nil, one
// after them, and then a linear layer, where head is not nil. The weights belong to it from then
// on. It panics where Check has an error and where weights have other sizes.
func NewFrozen(c FrozenConfig, before *FrozenNorm, blocks []FrozenBlock, after FrozenNorm, head *Dense) *Frozen {
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	m := &Frozen{config: c, blocks: blocks, before: before, after: after, head: head}
	norm := func(what string, n *FrozenNorm) {
		if len(n.W) != c.Width || len(n.B) != c.Width {
			panic(fmt.Sprintf("tower: NewFrozen: %s has %d weights and %d biases, want %d", what, len(n.W), len(n.B), c.Width))
		}
	}
	dense := func(what string, d *Dense, in, out int) {
		if d.In != in || d.Out != out || len(d.W) != in*out || d.B != nil && len(d.B) != out {
			panic(fmt.Sprintf("tower: NewFrozen: %s is [%d, %d] of %d weights and %d biases, want [%d, %d]", what, d.Out, d.In, len(d.W), len(d.B), out, in))
		}
	}
	if before != nil {
		norm("the norm before the blocks", before)
	}
	norm("the norm after the blocks", &after)
	if head != nil {
		dense("the last layer", head, c.Width, head.Out)
	}
	for i := range blocks {
		b := &blocks[i]
		norm("norm 1", &b.Norm1)
		norm("norm 2", &b.Norm2)
		for _, d := range []*Dense{&b.Q, &b.K, &b.V, &b.Proj} {
			dense("a layer of attention", d, c.Width, c.Width)
		}
		dense("the MLP's first layer", &b.In, c.Width, c.Hidden)
		dense("the MLP's last layer", &b.Out, c.Hidden, c.Width)
		if c.Act == SwiGLU {
			dense("the MLP's second layer", &b.Value, c.Width, c.Hidden)
		}
		if c.Act == QuickGELU { // x·σ(a·x) is SiLU(a·x)/a: the layers around take the factors
			times(b.In.W, quickSlope)
			times(b.In.B, quickSlope)
			times(b.Out.W, 1/quickSlope)
		}
	}
	return m
}

const quickSlope = 1.702

// Dim is how long the vectors are.
func (m *Frozen) Dim() int {
	if m.head != nil {
		return m.head.Out
	}
	return m.config.Width
}

// frozenScratch is the memory of one Run in flight.
type frozenScratch struct {
	h, q, k, v, y   []float32 // [rows, Width]
	hidden, value   []float32 // [tile, Hidden]
	mean, inv, lse  []float32
	last, lastQ     []float32 // [pooled, Width]
	lens            []int32
	tokens, batches int
}

const (
	// rowTile is how many rows the layers take at a time: as many as a product needs to be
	// fast, few enough for a tile to stay in the second cache on its way through the MLP.
	rowTile = 256
	colTile = 512
	// pooledTile is what the number of vectors is rounded up to: products of very few rows
	// run through other code and have other bits.
	pooledTile = 16
)

// Run computes the vectors of n sequences of l tokens, x [n, l, Width], which it overwrites:
// those of the tokens at[i] of each sequence i (nil: the first), after the last norm and
// layer, to out [n, Dim()]. It runs on worker w.
func (m *Frozen) Run(w *cpu.Worker, x []float32, n, l int, at []int32, out []float32) {
	c := &m.config
	if n < 1 || l < 1 || len(x) != n*l*c.Width || len(out) != n*m.Dim() || at != nil && len(at) != n {
		panic(fmt.Sprintf("tower: Frozen: %d values for %d sequences of %d tokens of width %d, %d places, room for %d values of vectors of %d",
			len(x), n, l, c.Width, len(at), len(out), m.Dim()))
	}
	s := m.take(n, l)
	defer m.give(s)
	rows := n * l
	if m.before != nil {
		m.norm(m.before, s, rows, x, x)
	}
	for i := range m.blocks[:max(0, len(m.blocks)-1)] {
		m.block(w, &m.blocks[i], s, x, n, l)
	}
	pooled := (n + pooledTile - 1) / pooledTile * pooledTile
	clear(s.last)
	place := func(i int) int {
		if at == nil {
			return i * l
		}
		return i*l + int(at[i])
	}
	for i := range n {
		copy(s.last[i*c.Width:][:c.Width], x[place(i)*c.Width:])
	}
	if k := len(m.blocks); k > 0 {
		m.lastBlock(w, &m.blocks[k-1], s, x, n, l, pooled, at)
	}
	m.norm(&m.after, s, pooled, s.last, s.last)
	if m.head == nil {
		copy(out, s.last)
		return
	}
	y := s.y[:pooled*m.head.Out]
	m.dense(w, m.head, pooled, y, s.last, cpu.FuncIdentity, false)
	copy(out, y)
}

func (m *Frozen) take(n, l int) *frozenScratch {
	m.mu.Lock()
	for i, s := range m.idle {
		if s.tokens == l && s.batches >= n {
			m.idle[i] = m.idle[len(m.idle)-1]
			m.idle = m.idle[:len(m.idle)-1]
			m.mu.Unlock()
			return s
		}
	}
	m.idle = nil // of other sizes
	m.mu.Unlock()
	c := &m.config
	pooled := (n + pooledTile - 1) / pooledTile * pooledTile
	rows := max(n*l, pooled)
	f := func(k int) []float32 { return make([]float32, k) }
	s := &frozenScratch{
		h: f(rows * c.Width), q: f(rows * c.Width), k: f(rows * c.Width), v: f(rows * c.Width), y: f(max(rows*c.Width, pooled*m.Dim())),
		hidden: f(min(rows, 2*rowTile) * c.Hidden), mean: f(rows), inv: f(rows), lse: f(rows * c.Heads),
		last: f(pooled * c.Width), lastQ: f(pooled * c.Width), lens: make([]int32, n), tokens: l, batches: n,
	}
	if c.Act == SwiGLU {
		s.value = f(len(s.hidden))
	}
	return s
}

func (m *Frozen) give(s *frozenScratch) {
	m.mu.Lock()
	m.idle = append(m.idle, s)
	m.mu.Unlock()
}

// norm sets y to the norm of x [rows, Width].
func (m *Frozen) norm(n *FrozenNorm, s *frozenScratch, rows int, y, x []float32) {
	p := cpu.Norm[float32]{N: m.config.Width, Eps: m.config.Eps, W: n.W, B: n.B}
	k := rows * m.config.Width
	p.Forward(rows, y[:k], s.mean[:rows], s.inv[:rows], x[:k])
}

// tiles calls f for rows in tiles of about rowTile, of nearly one size, so that none has few rows.
func tiles(rows int, f func(r, n int)) {
	k := max(1, (rows+rowTile/2)/rowTile)
	for t, r := 1, 0; t <= k; t++ {
		end := rows
		if t < k {
			end = t * rows / k / pooledTile * pooledTile
		}
		f(r, end-r)
		r = end
	}
}

// dense sets y to f(x·Wᵀ + B), or adds that to y.
func (m *Frozen) dense(w *cpu.Worker, d *Dense, rows int, y, x []float32, f cpu.Func, acc bool) {
	tiles(rows, func(r, n int) { denseTile(w, d, n, y[r*d.Out:], x[r*d.In:], f, acc) })
}

func denseTile(w *cpu.Worker, d *Dense, rows int, y, x []float32, f cpu.Func, acc bool) {
	beta := float32(0)
	if acc {
		beta = 1
	}
	for j := 0; j < d.Out; j += colTile {
		n := min(colTile, d.Out-j)
		cpu.Gemm32(w, false, true, rows, n, d.In, 1, x, d.In, d.W[j*d.In:], d.In, beta, y[j:], d.Out)
	}
	y = y[:rows*d.Out]
	if d.B != nil {
		cpu.PairRows(cpu.PairAdd, false, rows, d.Out, y, d.Out, y, d.Out, 1, d.B, 0, 1)
	}
	if f != cpu.FuncIdentity {
		cpu.Func32(f, 0, 0, y, y)
	}
}

func (m *Frozen) block(w *cpu.Worker, b *FrozenBlock, s *frozenScratch, x []float32, n, l int) {
	rows := n * l
	m.norm(&b.Norm1, s, rows, s.h, x)
	m.dense(w, &b.Q, rows, s.q, s.h, cpu.FuncIdentity, false)
	m.dense(w, &b.K, rows, s.k, s.h, cpu.FuncIdentity, false)
	m.dense(w, &b.V, rows, s.v, s.h, cpu.FuncIdentity, false)
	a := m.attention(s, n, l, l)
	a.Q.F, a.Causal = s.q[:rows*m.config.Width], m.config.Causal
	cpu.AttentionForward(w, &a, cpu.AttnRows{F: s.y[:rows*m.config.Width]}, s.lse[:rows*m.config.Heads])
	m.dense(w, &b.Proj, rows, x, s.y, cpu.FuncIdentity, true)
	m.norm(&b.Norm2, s, rows, s.h, x)
	m.mlp(w, b, s, rows, x, s.h)
}

// lastBlock is block for one token of each sequence: queries are theirs alone.
func (m *Frozen) lastBlock(w *cpu.Worker, b *FrozenBlock, s *frozenScratch, x []float32, n, l, pooled int, at []int32) {
	c, rows := &m.config, n*l
	m.norm(&b.Norm1, s, rows, s.h, x)
	m.dense(w, &b.K, rows, s.k, s.h, cpu.FuncIdentity, false)
	m.dense(w, &b.V, rows, s.v, s.h, cpu.FuncIdentity, false)
	m.norm(&b.Norm1, s, pooled, s.h, s.last)
	m.dense(w, &b.Q, pooled, s.lastQ, s.h, cpu.FuncIdentity, false)
	a := m.attention(s, n, 1, l)
	a.Q.F = s.lastQ[:n*c.Width]
	if c.Causal {
		a.KeyLens = s.lens[:n]
		for i := range a.KeyLens {
			a.KeyLens[i] = 1
			if at != nil {
				a.KeyLens[i] = at[i] + 1
			}
		}
	}
	y := s.y[:pooled*c.Width]
	clear(y)
	cpu.AttentionForward(w, &a, cpu.AttnRows{F: y[:n*c.Width]}, s.lse[:n*c.Heads])
	m.dense(w, &b.Proj, pooled, s.last, y, cpu.FuncIdentity, true)
	m.norm(&b.Norm2, s, pooled, s.h, s.last)
	m.mlp(w, b, s, pooled, s.last, s.h)
}

func (m *Frozen) attention(s *frozenScratch, n, lq, lk int) cpu.Attn {
	c := &m.config
	d := c.Width / c.Heads
	return cpu.Attn{
		B: n, H: c.Heads, HKV: c.Heads, D: d, LQ: lq, LK: lk, Scale: float32(1 / math.Sqrt(float64(d))),
		K: cpu.AttnRows{F: s.k[:n*lk*c.Width]}, V: cpu.AttnRows{F: s.v[:n*lk*c.Width]},
	}
}

// mlp adds the MLP of h to x, [rows, Width] both.
func (m *Frozen) mlp(w *cpu.Worker, b *FrozenBlock, s *frozenScratch, rows int, x, h []float32) {
	c := &m.config
	f := cpu.FuncGELU
	if c.Act != GELU {
		f = cpu.FuncSiLU
	}
	tiles(rows, func(r, n int) {
		t := s.hidden[:n*c.Hidden]
		denseTile(w, &b.In, n, t, h[r*c.Width:], f, false)
		if c.Act == SwiGLU {
			v := s.value[:n*c.Hidden]
			denseTile(w, &b.Value, n, v, h[r*c.Width:], cpu.FuncIdentity, false)
			cpu.PairRows(cpu.PairMul, false, 1, n*c.Hidden, t, n*c.Hidden, t, n*c.Hidden, 1, v, n*c.Hidden, 1)
		}
		denseTile(w, &b.Out, n, x[r*c.Width:], t, cpu.FuncIdentity, true)
	})
}
