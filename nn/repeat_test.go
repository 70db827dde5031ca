package nn_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/nn"
)

// bits is a hash of everything that a few steps of a network of most operations leave, at
// sizes where work is cut into many pieces.
func bits() string {
	h := sha256.New()
	for _, dt := range []gpu.DType{gpu.Float32, gpu.Float64} {
		net, loss := smallNet(dt)
		rows := 192
		ids := make([]int32, rows)
		for i := range ids {
			ids[i] = int32(i * 7 % 10)
		}
		x := gpu.CPU().FromAs(dt, oracle.Normal(1, rows*30*24), rows, 30, 24)
		tape, opt := nn.NewTape(gpu.CPU(), dt), nn.NewAdam(net, nn.AdamOptions{})
		for range 2 {
			tape.Run(func() {
				tape.Backward(loss(tape, tape.Input(x), gpu.CPU().FromInt32(ids, rows)))
			})
			nn.ClipNorm(1, net)
			opt.Step(0.01)
		}
		for _, s := range [][]nn.Named{net.State(), opt.State()} {
			for _, n := range s {
				for _, v := range floats(n.Tensor) {
					h.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
				}
			}
		}
	}
	net, loss := pictureNet()
	x := gpu.CPU().From(oracle.Normal(2, 50*2*8*8), 50, 2, 8, 8)
	tape, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{})
	for range 2 {
		tape.Run(func() { tape.Backward(loss(tape, tape.Input(x))) })
		opt.Step(0.01)
	}
	for _, v := range floats(net.Value()) {
		h.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// A step has the same bits at any number of threads; each is a process of its own.
func TestBitsAtAnyNumberOfThreads(t *testing.T) { network.SameBits(t, []int{1, 2, 3, 5}, bits) }
