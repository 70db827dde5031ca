package nn_test

import (
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// attended is the definition: of each query the average of the values it sees, weighted by
// exp(q·k/√d), with d elements a head, and 0 where it sees none.
func attended(x [][]float64, b, lq, lk, h, d int, sees func(b, i, j int) bool) []float64 {
	y := make([]float64, b*lq*h*d)
	for r := range b * lq * h {
		s, i, head := r/(lq*h), r/h%lq, r%h
		var total float64
		for j := range lk {
			if !sees(s, i, j) {
				continue
			}
			key := ((s*lk+j)*h + head) * d
			var dot float64
			for e := range d {
				dot += x[0][r*d+e] * x[1][key+e]
			}
			w := math.Exp(dot / math.Sqrt(float64(d)))
			total += w
			for e := range d {
				y[r*d+e] += w * x[2][key+e]
			}
		}
		for e := range d {
			if total > 0 {
				y[r*d+e] /= total
			}
		}
	}
	return y
}

// A mask of each kind is compared with the definition and, in the walk back, with differences.
func TestPairsOfAttention(t *testing.T) {
	const b, l, h, d = 2, 5, 2, 4
	given := [][]bool{{true, false, true, false, false}, {false, false, false, true, false}}
	dense := make([]bool, b*l*l)
	for i := range dense {
		dense[i] = i*i%7 < 3 && i/l%4 != 2 // some queries see nothing
	}
	block := []int{0, 1, 1, 2, 2}
	lens := gpu.CPU().FromInt32([]int32{4, 5}, 2)
	for name, c := range map[string]struct {
		m    nn.AttnMask
		sees func(b, i, j int) bool
	}{
		"block causal": {nn.BlockCausal(1, 2, 2), func(_, i, j int) bool { return block[j] <= block[i] }},
		"condition":    {nn.Condition(given...), func(b, i, j int) bool { return given[b][j] || !given[b][i] && j <= i }},
		"prefix":       {nn.Prefix(2, l), func(_, i, j int) bool { return j < 2 || i >= 2 && j <= i }},
		"dense":        {nn.Dense(b, l, l, dense), func(b, i, j int) bool { return dense[(b*l+i)*l+j] }},
		"with padding": {nn.AttnMask{Pairs: nn.Condition(given...).Pairs, KeyLens: lens}, func(b, i, j int) bool {
			return (given[b][j] || !given[b][i] && j <= i) && j < int(lens.I32()[b])
		}},
		"with causal": {nn.AttnMask{Pairs: nn.Dense(b, l, l, dense).Pairs, Causal: true}, func(b, i, j int) bool { return dense[(b*l+i)*l+j] && j <= i }},
	} {
		op := opCase{
			shapes: [][]int{{b, l, h, d}, {b, l, h, d}, {b, l, h, d}},
			f:      func(_ *nn.Tape, x vars) *nn.Var { return nn.Attention(x[0], x[1], x[2], 0, c.m) },
			want:   func(x [][]float64) []float64 { return attended(x, b, l, l, h, d, c.sees) },
		}
		t.Run(name, op.check)
		op = opCase{
			shapes: [][]int{{b, l, h, d}, {b, l, h, d}},
			f:      func(_ *nn.Tape, x vars) *nn.Var { return nn.AttentionMaps(x[0], x[1], 0, c.m, ops.MapSelect{}) },
		}
		t.Run("maps, "+name, op.check)
	}
	rows := nn.Dense(1, l, 70, func() []bool { // more keys than a word has bits
		v := make([]bool, l*70)
		for i := range v {
			v[i] = i%3 == 1
		}
		return v
	}()).Pairs.Rows(2, 3)
	op := opCase{
		shapes: [][]int{{b, 3, h, d}, {b, 70, h, d}, {b, 70, h, d}, {1, h, 3, 70}},
		f: func(_ *nn.Tape, x vars) *nn.Var {
			return nn.Attention(x[0], x[1], x[2], 0, nn.AttnMask{Pairs: rows, Bias: x[3]})
		},
	}
	t.Run("rows with a bias", op.check)
	op = opCase{ // the bias itself hides all keys of a query of one head
		shapes: [][]int{{b, 3, h, d}, {b, 3, h, d}, {b, 3, h, d}},
		f: func(tape *nn.Tape, x vars) *nn.Var {
			v, hidden := make([]float32, h*3*3), float32(math.Inf(-1))
			copy(v[3:], []float32{hidden, hidden, hidden, 0, hidden})
			return nn.Attention(x[0], x[1], x[2], 0, nn.AttnMask{Bias: tape.Input(gpu.CPU().FromAs(tape.DType(), v, 1, h, 3, 3))})
		},
	}
	t.Run("hidden by the bias", op.check)
}

// What sees nothing has the result 0, and neither takes nor gives a gradient, at any scores.
func TestUnseenPairsHaveNoGradient(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		tape := nn.NewTape(gpu.CPU(), dt)
		tape.Arena().Poison(true)
		m := nn.Dense(1, 2, 3, []bool{true, false, true, false, false, false})
		var x [3]*nn.Var
		for i := range x {
			l := 3 - (2-i)/2
			v := oracle.Normal(uint64(i), l*8)
			for j := range v {
				v[j] *= 30
			}
			x[i] = tape.Leaf(gpu.CPU().FromAs(dt, v, 1, l, 2, 4))
		}
		y := nn.Attention(x[0], x[1], x[2], 1, m)
		tape.Backward(y.Square().Sum())
		at := func(v []float64, row int) []float64 { return v[row*8:][:8] }
		zeros := make([]float64, 8)
		if got := at(floats(y.Value()), 1); !slices.Equal(got, zeros) {
			t.Errorf("%v: the result of a query that sees nothing is %v", dt, got)
		}
		if got := at(floats(x[0].Grad()), 1); !slices.Equal(got, zeros) {
			t.Errorf("%v: its gradient is %v", dt, got)
		}
		for i, v := range x[1:] {
			if got := at(floats(v.Grad()), 1); !slices.Equal(got, zeros) {
				t.Errorf("%v: the gradient by a key (0) or value (1) that nobody sees, %d, is %v", dt, i, got)
			}
		}
		for i, v := range x {
			for _, e := range floats(v.Grad()) {
				if math.IsNaN(e) {
					t.Fatalf("%v: the gradient by operand %d has NaN", dt, i)
				}
			}
		}
	}
}

// Blocks of one are causal, one block is everything: the same bits as by the kernels' own masks.
func TestBlocksOfOneAreCausal(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x := tape.Input(gpu.CPU().From(oracle.Normal(3, 2*6*2*8), 2, 6, 2, 8))
	for _, c := range []struct{ a, b nn.AttnMask }{
		{nn.BlockCausal(1, 1, 1, 1, 1, 1), nn.AttnMask{Causal: true}},
		{nn.BlockCausal(6), nn.AttnMask{}},
		{nn.Condition(make([]bool, 6)), nn.AttnMask{Causal: true}},
		{nn.Prefix(6, 6), nn.AttnMask{}},
	} {
		a, b := nn.Attention(x, x, x, 0, c.a).Value(), nn.Attention(x, x, x, 0, c.b).Value()
		oracle.Close(t, a.F32(), oracle.Tol{Abs: 1e-6}, func(i int) float64 { return float64(b.F32()[i]) })
	}
}

func TestSelections(t *testing.T) {
	mask := gpu.CPU().FromUint8([]uint8{1, 0, 0, 2, 0}, 5)
	column := gpu.CPU().FromUint8([]uint8{0, 1, 0}, 3, 1)
	sums := func(outer, size, inner int) func(x [][]float64) []float64 {
		return func(x [][]float64) []float64 {
			y := make([]float64, len(x[0]))
			for i := range y {
				for j := 0; j <= i/inner%size; j++ {
					y[i] += x[0][i/(size*inner)*size*inner+j*inner+i%inner]
				}
			}
			return y
		}
	}
	for name, c := range map[string]opCase{
		"masked fill": {shapes: [][]int{{2, 3, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].MaskedFill(mask, -7) }, want: func(x [][]float64) []float64 {
			y := slices.Clone(x[0])
			for i := range y {
				if i%5 == 0 || i%5 == 3 {
					y[i] = -7
				}
			}
			return y
		}},
		"masked fill by rows": {shapes: [][]int{{2, 3, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var {
			return x[0].MaskedFill(column, 0.5).Mul(x[0])
		}, want: func(x [][]float64) []float64 {
			y := slices.Clone(x[0])
			for i, v := range y {
				y[i] = v * v
				if i/5%3 == 1 {
					y[i] = 0.5 * v
				}
			}
			return y
		}},
		"cumsum first":  {shapes: [][]int{{3, 2, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].CumSum(0) }, want: sums(1, 3, 10)},
		"cumsum middle": {shapes: [][]int{{2, 3, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].CumSum(1) }, want: sums(2, 3, 5)},
		"cumsum last": {shapes: [][]int{{2, 3, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].CumSum(2).Tanh() }, want: func(x [][]float64) []float64 {
			return each(math.Tanh)([][]float64{sums(6, 5, 1)(x)})
		}},
		"flip first": {shapes: [][]int{{3, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Flip(0) }, want: func(x [][]float64) []float64 {
			return slices.Concat(x[0][10:], x[0][5:10], x[0][:5])
		}},
		"flip middle": {shapes: [][]int{{2, 3, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Flip(1).Mul(x[0]) }, want: func(x [][]float64) []float64 {
			y := make([]float64, 30)
			for i := range y {
				y[i] = x[0][i] * x[0][i/15*15+(2-i/5%3)*5+i%5]
			}
			return y
		}},
		"flip last": {shapes: [][]int{{2, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Flip(1) }, want: func(x [][]float64) []float64 {
			y := slices.Clone(x[0])
			slices.Reverse(y[:5])
			slices.Reverse(y[5:])
			return y
		}},
		"unit": {shapes: [][]int{{4, 7}}, f: func(_ *nn.Tape, x vars) *nn.Var { return x[0].Unit(0.1) }, want: func(x [][]float64) []float64 {
			y := make([]float64, len(x[0]))
			for i, v := range x[0] {
				s := 0.1
				for _, e := range x[0][i/7*7:][:7] {
					s += e * e
				}
				y[i] = v / math.Sqrt(s)
			}
			return y
		}},
		"cosine matrix": {shapes: [][]int{{2, 3, 5}, {2, 4, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.CosineMatrix(x[0], x[1], 0) }, want: func(x [][]float64) []float64 {
			var y []float64
			for r := range 2 * 3 * 4 {
				a, b := x[0][(r/12*3+r/4%3)*5:][:5], x[1][(r/12*4+r%4)*5:][:5]
				var ab, aa, bb float64
				for i := range a {
					ab, aa, bb = ab+a[i]*b[i], aa+a[i]*a[i], bb+b[i]*b[i]
				}
				y = append(y, ab/math.Sqrt(aa*bb))
			}
			return y
		}},
		"cosine matrix with one": {shapes: [][]int{{2, 3, 5}, {4, 5}}, f: func(_ *nn.Tape, x vars) *nn.Var { return nn.CosineMatrix(x[0], x[1], 1e-3) }},
	} {
		t.Run(name, c.check)
	}
}

func TestMisuseOfMasks(t *testing.T) {
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	x := tape.Leaf(gpu.CPU().Zeros(gpu.Float32, 2, 3, 2, 4))
	oracle.Refuses(t, map[string]func(){
		"block 1 has 0 elements":                      func() { nn.BlockCausal(2, 0) },
		"3 elements of sequence 1, 2 of the first":    func() { nn.Condition(make([]bool, 2), make([]bool, 3)) },
		"no list of what is given":                    func() { nn.Condition() },
		"5 of 4 elements":                             func() { nn.Prefix(5, 4) },
		"5 values for 1 sequences of 2 queries":       func() { nn.Dense(1, 2, 3, make([]bool, 5)) },
		"want at least one of each":                   func() { nn.NewPairs(1, 0, 3, nil) },
		"2 queries from 1 on, the mask has 2":         func() { nn.BlockCausal(1, 1).Pairs.Rows(1, 2) },
		"mask of shape [1 4 4] for queries [2 3 2 4]": func() { nn.Attention(x, x, x, 0, nn.BlockCausal(4)) },
		"want [1 or 2, 3, 3]":                         func() { nn.Attention(x, x, x, 0, nn.Condition(make([]bool, 3), make([]bool, 3), make([]bool, 3))) },
		"Flip: axis -1 of shape":                      func() { x.Flip(-1) },
		"CumSum: axis 4 of shape":                     func() { x.CumSum(4) },
		"the mask is int32 on cpu":                    func() { x.MaskedFill(gpu.CPU().FromInt32([]int32{1}, 1), 0) },
		"does not repeat to [2 3 2 4]":                func() { x.MaskedFill(gpu.CPU().FromUint8([]uint8{1, 0, 1}, 3), 0) },
	})
}

func TestStepsWithMasksAllocateNothing(t *testing.T) {
	m := nn.Condition([]bool{true, false, false, true})
	mask := gpu.CPU().FromUint8([]uint8{1, 0, 0, 0, 0, 0, 0, 0}, 8)
	v := gpu.CPU().From(oracle.Normal(3, 2*4*2*8), 2, 4, 2, 8)
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	body := func() {
		x := tape.Leaf(v)
		y := nn.Attention(x, x.CumSum(1), x.MaskedFill(mask, 1), 0, m).Reshape(2, 4, 16)
		tape.Backward(nn.CosineMatrix(y, y, 1e-6).Sum())
	}
	step := func() { tape.Run(body) }
	step()
	step()
	if n := oracle.Allocations(10, step); n >= 1 {
		t.Errorf("%v allocations a step", n)
	}
}
