package nn

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/ops"
)

// SquaredError is the mean of (x - y)² over each sample of x and y, [B, ...]; the result
// is [B].
func SquaredError(x, y *Var) *Var {
	t := x.tape
	x.mustHave("SquaredError", 0)
	val := t.empty(x.Shape()[0])
	ops.SquaredError(val, x.val, y.val)
	z, n := t.result(val, squaredErrorBack, x, y, nil, nil)
	if n != nil {
		n.ahead = squaredErrorAhead
	}
	return z
}

func squaredErrorBack(t *Tape, n *node) {
	x, y := n.in[0], n.in[1]
	if to, acc := t.into(x); to != nil {
		ops.SquaredErrorBackward(to, x.val, y.val, n.out.grad, 1, acc)
	}
	if to, acc := t.into(y); to != nil {
		ops.SquaredErrorBackward(to, x.val, y.val, n.out.grad, -1, acc)
	}
}

// MSE is the mean of (x - y)² over all elements of x and y, [B, ...], each sample times
// its weight; weights is [B], or nil for ones.
func MSE(x, y, weights *Var) *Var {
	e := SquaredError(x, y)
	if weights != nil {
		if len(weights.Shape()) != 1 {
			panic(fmt.Sprintf("nn: MSE: the weights have shape %v, want [%d]", weights.Shape(), x.Shape()[0]))
		}
		e = e.Mul(weights)
	}
	return e.Mean()
}

// PseudoHuber is √(|x - y|² + c²) - c of each sample of x and y, [B, ...], with the
// Euclidean norm of the sample (Song and Dhariwal 2024, arXiv 2310.14189); the result
// is [B].
func PseudoHuber(x, y *Var, c float64) *Var {
	n := 1
	for _, d := range x.Shape()[1:] {
		n *= d
	}
	return SquaredError(x, y).Affine(float64(n), c*c).Sqrt().Affine(1, -c)
}

// CrossEntropy is -log of the probability that the logits x, [..., n], give to each
// row's label, Int32 [...] on the CPU; -1 is no label and gives 0. With smooth > 0 the
// wanted distribution has smooth/n everywhere and 1-smooth at the label besides.
func CrossEntropy(x *Var, labels *gpu.Tensor, smooth float64) *Var {
	t := x.tape
	x.mustHave("CrossEntropy", len(x.Shape())-1)
	s := x.Shape()
	val, lse := t.empty(s[:len(s)-1]...), t.empty(s[:len(s)-1]...)
	ops.CrossEntropy(val, lse, x.val, labels, smooth)
	y, n := t.result(val, crossEntropyBack, x, nil, nil, nil)
	if n != nil {
		n.ahead = crossEntropyAhead
		n.save[0], n.save[1], n.f[0] = lse, labels, smooth
	}
	return y
}

func crossEntropyBack(t *Tape, n *node) {
	if to, acc := t.into(n.in[0]); to != nil {
		ops.CrossEntropyBackward(to, n.in[0].val, n.save[0], n.save[1], n.out.grad, n.f[0], acc)
	}
}

// BCEWithLogits is -(y·log σ(x) + (1-y)·log(1 - σ(x))) of every element, made as
// softplus(x) - x·y, which no logit overflows.
func BCEWithLogits(x, y *Var) *Var { return x.Softplus().Sub(x.Mul(y)) }

// KLNormal is the divergence of the normal distributions with these means and logarithms
// of variances from the standard one, of every element: (mean² + e^logvar - logvar - 1)/2.
func KLNormal(mean, logvar *Var) *Var {
	return mean.Square().Add(logvar.Exp()).Sub(logvar).Affine(0.5, -0.5)
}

// CosineSimilarity is the cosine of the angle between x and y along the last axis, which goes; eps
// is added to the squared lengths.
func CosineSimilarity(x, y *Var, eps float64) *Var {
	last := len(x.Shape()) - 1
	x.mustHave("CosineSimilarity", last)
	dot := x.Mul(y).Sum(last)
	size := x.Square().Sum(last).Affine(1, eps).Mul(y.Square().Sum(last).Affine(1, eps)).Sqrt()
	s := x.Shape()
	return dot.Div(size).Reshape(s[:last]...)
}

// L1 is |x - y| of every element.
func L1(x, y *Var) *Var { return x.Sub(y).Abs() }

// SmoothL1 is (x - y)²/(2·beta) of every element where |x - y| is below beta, and |x - y| -
// beta/2 elsewhere (Girshick 2015, arXiv 1504.08083).
func SmoothL1(x, y *Var, beta float64) *Var {
	if !(beta > 0) {
		panic(fmt.Sprintf("nn: SmoothL1: beta %g, want > 0", beta))
	}
	d := L1(x, y)
	m := d.Clip(0, beta) // d - m + m²/(2·beta)
	return d.Sub(m).Add(m.Square().Scale(1 / (2 * beta)))
}

// The losses of critics and of what they judge. real and fake are the critic's results, of any
// shape: high where it takes something for real. All are means.

// HingeCritic is (mean max(0, 1 - real) + mean max(0, 1 + fake))/2 (Lim and Ye 2017, arXiv
// 1705.02894).
func HingeCritic(real, fake *Var) *Var {
	return real.Affine(-1, 1).ReLU().Mean().Add(fake.Affine(1, 1).ReLU().Mean()).Scale(0.5)
}

// HingeGenerator is -mean fake.
func HingeGenerator(fake *Var) *Var { return fake.Mean().Neg() }

// SoftplusCritic is (mean softplus(-real) + mean softplus(fake))/2: the logarithmic loss of
// Goodfellow et al. 2014, arXiv 1406.2661.
func SoftplusCritic(real, fake *Var) *Var {
	return real.Neg().Softplus().Mean().Add(fake.Softplus().Mean()).Scale(0.5)
}

// SoftplusGenerator is mean softplus(-fake), the non-saturating loss of the same paper.
func SoftplusGenerator(fake *Var) *Var { return fake.Neg().Softplus().Mean() }
