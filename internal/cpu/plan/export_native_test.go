//go:build native && cgo

package plan

// What tests of the layouts see of the native plan.

var OpenDNNL = openDNNL

const (
	AVX2, AVX512, AMX = isaAVX2, isaAVX512, isaAMX
	Block8, NHWC      = block8, nhwc
)

func ISA() int { return oneDNN.isa }

func SetISA(isa int) { oneDNN.isa = isa }

// Layout is the layout of a plan's maps, and how many multiply-adds do not run on the fast path.
func Layout(p *Plan) (maps int, slow int64) {
	n := p.engine.(*nativePlan)
	return n.l.maps, int64(n.slow)
}
