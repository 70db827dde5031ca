package nn

import (
	"fmt"
	"math"

	"github.com/fidlab/fidlab/gpu"
)

// RoundWeights rounds parameters of two axes or more to whole multiples of max|w|/(2^(bits-1)-1), with the greatest of each parameter:
// what weights of so many bits, symmetric and of one scale a tensor, would be. Biases, norms and other vectors stay. It is for asking
// what a network loses by it; nothing is stored in fewer bits.
func RoundWeights(p *Params, bits int) error {
	if bits < 2 || bits > 16 {
		return fmt.Errorf("nn: weights of %d bits; want 2 to 16", bits)
	}
	levels := float64(int(1)<<(bits-1) - 1)
	for _, q := range p.list {
		if len(q.Shape()) < 2 {
			continue
		}
		host := q.Value.To(gpu.CPU())
		v := host.F32()
		if host.Double() {
			return fmt.Errorf("nn: parameter %s is float64; weights of few bits are made of float32", q.Name)
		}
		var most float64
		for _, w := range v {
			most = math.Max(most, math.Abs(float64(w)))
		}
		if most == 0 {
			continue
		}
		step := most / levels
		for i, w := range v {
			v[i] = float32(math.RoundToEven(float64(w)/step) * step)
		}
		if host != q.Value {
			q.Value.Copy(host)
		}
	}
	return nil
}
