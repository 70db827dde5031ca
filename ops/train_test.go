package ops_test

import (
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/ops"
)

// The gradients of the operations that networks are trained with are checked in package
// nn, by differences; here are sizes that are cut into many pieces, and misuse.

// off is how far a float32 or float64 result of n terms may be from the sum in float64.
func off(double bool, terms int, size float64) float64 {
	if double {
		return float64(terms+2) * 0x1p-52 * size
	}
	return float64(terms+2) * 0x1p-23 * size
}

func TestArgMax(t *testing.T) {
	nan := float32(math.NaN())
	x := gpu.CPU().From([]float32{1, 3, 3, -1, -2, -3, 0, nan, 9, nan, 1, nan}, 4, 3)
	at, top := gpu.CPU().New(gpu.Int32, 4), gpu.CPU().Empty(4)
	ops.ArgMax(at, top, x)
	for r, want := range []int32{1, 0, 1, 0} {
		if at.I32()[r] != want {
			t.Errorf("row %d: place %d, want %d", r, at.I32()[r], want)
		}
	}
	if top.F32()[0] != 3 || top.F32()[1] != -1 || top.F32()[2] == top.F32()[2] {
		t.Errorf("values %v", top.F32())
	}
}

// What these operations refuse says so: shapes, dtypes, limits.
func TestTrainingOpsMisuse(t *testing.T) {
	d := gpu.CPU()
	e := func(shape ...int) *gpu.Tensor { return d.Empty(shape...) }
	ids := func(v ...int32) *gpu.Tensor { return d.FromInt32(v, len(v)) }
	oracle.Refuses(t, map[string]func(){
		"Map: shapes [2 3] and [3 2]":                     func() { ops.Map(e(2, 3), e(3, 2), ops.ReLU) },
		"Map: operand 1 is float64, the first float32":    func() { ops.Map(e(2), d.Empty64(2), ops.ReLU) },
		"Map: operand 0 is int32":                         func() { ops.Map(ids(1), ids(1), ops.ReLU) },
		"Clip: limits 2 and 1":                            func() { ops.Clip(2, 1) },
		"Add: shape [3] of operand 0 does not repeat":     func() { ops.Add(e(2, 4), e(3), e(4), false) },
		"more axes than the result's":                     func() { ops.Mul(e(4), e(1, 4), e(4), false) },
		"want at most 8":                                  func() { ops.Mul(e(1, 1, 1, 1, 1, 1, 1, 1, 1), e(1), e(1), false) },
		"SumTo: shape [2] of operand 0 does not repeat":   func() { ops.SumTo(e(2), e(4, 3), nil, false) },
		"MatMul: b has shape [4 5], want 5 by 3":          func() { ops.MatMul(e(2, 5), e(2, 3), e(4, 5), ops.MatMulConfig{TransB: true}) },
		"MatMul: b has shape [3 4], want 3 by 5":          func() { ops.MatMul(e(2, 5), e(2, 3), e(3, 4), ops.MatMulConfig{}) },
		"MatMul: b has shape [2 3 5], want 3 by 5, alone": func() { ops.MatMul(e(4, 2, 5), e(4, 2, 3), e(2, 3, 5), ops.MatMulConfig{}) },
		"want [..., rows, columns]":                       func() { ops.MatMul(e(5), e(5), e(5, 5), ops.MatMulConfig{}) },
		"Linear: x [2 3], weight [5 4]":                   func() { ops.Linear(e(2, 5), nil, e(2, 3), e(5, 4), nil, ops.Identity) },
		"the bias has shape [4], want [5]":                func() { ops.Linear(e(2, 5), nil, e(2, 4), e(5, 4), e(4), ops.Identity) },
		"want [out, in]":                                  func() { ops.Linear(e(2, 5), nil, e(2, 4), e(5), nil, ops.Identity) },
		"Norm: mean has shape [3]":                        func() { ops.Norm(e(2, 4), e(3), e(2), e(2, 4), ops.NormConfig{}) },
		"weight or bias has shape [3], want [4]":          func() { ops.Norm(e(2, 4), e(2), e(2), e(2, 4), ops.NormConfig{Weight: e(3)}) },
		"B a divisor of the 2 rows":                       func() { ops.Norm(e(2, 4), e(2), e(2), e(2, 4), ops.NormConfig{Scale: e(3, 4)}) },
		"Norm: Eps is -1":                                 func() { ops.Norm(e(2, 4), e(2), e(2), e(2, 4), ops.NormConfig{Eps: -1}) },
		"NormBackward: a gradient of shape [4] for a part": func() {
			ops.NormBackward(e(2, 4), false, ops.NormGrads{Weight: e(4)}, e(2, 4), e(2, 4), e(2), e(2), ops.NormConfig{})
		},
		"3 groups of 4 channels": func() { ops.GroupNorm(e(2, 4), e(6), e(6), e(2, 4), ops.GroupNormConfig{Groups: 3}) },
		"scale or shift has shape [2 3], want [2 4]": func() {
			ops.GroupNorm(e(2, 4), e(4), e(4), e(2, 4), ops.GroupNormConfig{Groups: 2, Scale: e(2, 3)})
		},
		"want [N, C, ...]":                                         func() { ops.GroupNorm(e(4), e(4), e(4), e(4), ops.GroupNormConfig{Groups: 2}) },
		"Softmax: the operand has no axis":                         func() { ops.Softmax(e(), e()) },
		"lse has shape [3], want 2 elements":                       func() { ops.LogSumExp(e(3), e(2, 4)) },
		"label 4 of row 1, want 0 to 3":                            func() { ops.CrossEntropy(e(2), e(2), e(2, 4), ids(0, 4), 0) },
		"labels are float32":                                       func() { ops.CrossEntropy(e(2), e(2), e(2, 4), e(2), 0) },
		"smoothing 1, want":                                        func() { ops.CrossEntropy(e(2), e(2), e(2, 4), ids(0, 1), 1) },
		"id 3 at 1, want 0 to 2":                                   func() { ops.Gather(e(2, 4), e(3, 4), ids(0, 3)) },
		"2 ids of rows of 4 for shape [3 4]":                       func() { ops.ScatterAdd(e(3, 4), e(3, 4), ids(0, 1)) },
		"ArgMax: rows of 0 elements":                               func() { ops.ArgMax(ids(), nil, e(2, 0)) },
		"permutation [0 0] of shape [2 3]":                         func() { ops.Permute(e(2, 2), e(2, 3), false, 0, 0) },
		"a piece of shape [2 2] from 2 on":                         func() { ops.Slice(e(2, 2), e(2, 3), 1, 2, false) },
		"axis 2 of shape [2 3]":                                    func() { ops.PutSlice(e(2, 3), e(2, 3), 2, 0, false) },
		"Adam: operand 1 has 3 elements":                           func() { ops.Adam(e(4), e(3), e(4), e(4), 0, 4, ops.AdamConfig{}) },
		"Adafactor: moments of 2 rows and 3 columns for shape [4]": func() { ops.Adafactor(e(4), e(2), e(3), ops.AdafactorConfig{}) },
		"Adafactor: moments of 1 rows and 3 columns for shape [4]": func() { ops.Adafactor(e(4), nil, e(3), ops.AdafactorConfig{}) },
		"Lion: elements 2 to 5 of 4":                               func() { ops.Lion(e(4), e(4), e(4), 2, 5, ops.LionConfig{}) },
		"SquaredError: 3 losses for shape [2 4]":                   func() { ops.SquaredError(e(3), e(2, 4), e(2, 4)) },
		"Item: shape [2] has 2 elements, want one":                 func() { ops.Item(e(2)) },
		"WhereEqual: shapes [2] and [3] (operand 1":                func() { ops.WhereEqual(e(2), e(3), e(2), e(2), e(2), false) },
	})
}
