package unet_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle/network"
	"github.com/fidlab/fidlab/models/unet"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
)

// bits is a hash of the parameters of small networks after two steps.
func bits() string {
	h := sha256.New()
	for _, name := range []string{"everything", "plain", "pool", "first"} {
		net := nn.NewParams(gpu.CPU(), gpu.Float32)
		u := unet.New(net.At("net"), configs()[name])
		awake(net)
		net.Init(1)
		u.Mask = ops.Mask{Seed: 2}
		tape, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{})
		for range 2 {
			tape.Run(func() {
				x, time, in := given(tape, u.Takes(), 21, 10)
				tape.Backward(u.Forward(x, time, in).Square().Mean())
			})
			opt.Step(1e-3)
		}
		for _, v := range net.Value().F32() {
			h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Steps have the same bits at any number of threads; each is a process of its own.
func TestBitsAtAnyNumberOfThreads(t *testing.T) { network.SameBits(t, []int{1, 2, 5}, bits) }
