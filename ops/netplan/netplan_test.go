package netplan_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/internal/oracle/device"
	"github.com/fidlab/fidlab/internal/oracle/nets"
	"github.com/fidlab/fidlab/ops/netplan"
)

func compile(t *testing.T, dev *gpu.Device, net *plan.Net, opt plan.Options) *netplan.Plan {
	t.Helper()
	p, err := netplan.Compile(dev, net, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Every kind of node, awkward sizes and nets at random compute what the definition says, in a batch as alone.
func TestPlan(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		for _, net := range nets.Zoo() {
			nets.Check(t, net, compile(t, dev, net, plan.Options{Batch: 4}), 4, 1e-6)
		}
		// As of the CPU's plans: maps and weights of 8 bits at each of up to eight layers; products without that of the low terms.
		for precision, tol := range map[plan.Precision]float64{plan.BF16: 0.02, plan.SplitBF16: 2e-5} {
			for _, net := range nets.Zoo() {
				nets.Check(t, net, compile(t, dev, net, plan.Options{Batch: 4, Precision: precision}), 4, tol)
			}
		}
		for seed := range uint64(40) {
			net := nets.Random(seed)
			nets.Check(t, net, compile(t, dev, net, plan.Options{Batch: 3}), 3, 1e-5) // sums of random signs cancel by a factor of ten at times
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	})
}

// Runs at the same time give what they give alone.
func TestPlanConcurrent(t *testing.T) {
	device.Each(t, func(t *testing.T, dev *gpu.Device) {
		net := nets.Zoo()[0]
		p := compile(t, dev, net, plan.Options{Batch: 2})
		const images = 8
		in := nets.Images(net, images)
		size := len(in) / images
		features := func(group int) []float32 {
			out := make([]float32, images*p.OutLen(0))
			var wg sync.WaitGroup
			for at := 0; at < images; at += group {
				wg.Go(func() {
					n := min(group, images-at)
					outs := [][]float32{out[at*p.OutLen(0):][:n*p.OutLen(0)]}
					for i := 1; i < len(net.Outputs); i++ {
						outs = append(outs, make([]float32, n*p.OutLen(i)))
					}
					if err := p.Run(nil, in[at*size:][:n*size], outs...); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			return out
		}
		one, two := features(1), features(2)
		for i, v := range one {
			if math.Float32bits(v) != math.Float32bits(two[i]) {
				t.Fatalf("value %d is %g of a batch of two, %g alone", i, two[i], v)
			}
		}
	})
}

// Buffers take turns in memory, so that a chain of layers needs that of two.
func TestPlanMemory(t *testing.T) {
	net := nets.OneConv(8, 16, 8, 3)
	for i := range 10 {
		n := net.Nodes[0]
		n.Name, n.In = fmt.Sprint("c", i), []string{net.Nodes[i].Name}
		net.Nodes = append(net.Nodes, n)
	}
	net.Outputs = []string{"c9"}
	p := compile(t, gpu.CPU(), net, plan.Options{Batch: 1})
	const a = 4 * 8 * 16 * 16 // a map
	parameters, run := p.Memory()
	if parameters != 11*4*(8*8*9+8) || run != a*5 { // the pictures, as they come and channels last, two maps in turn, the result
		t.Errorf("%d bytes of parameters, %d of a run; want %d and %d", parameters, run, 11*4*(8*8*9+8), 5*a)
	}
}

func TestPlanRefuses(t *testing.T) {
	net := nets.Zoo()[1]
	if _, err := netplan.Compile(gpu.CPU(), net, plan.Options{Batch: -1}); err == nil || !strings.Contains(err.Error(), "batch is -1") {
		t.Errorf("%v", err)
	}
	bad := *net
	bad.Outputs = []string{"nothing"}
	if _, err := netplan.Compile(gpu.CPU(), &bad, plan.Options{}); err == nil || !strings.Contains(err.Error(), `output "nothing"`) {
		t.Errorf("%v", err)
	}
	p := compile(t, gpu.CPU(), net, plan.Options{Batch: 2})
	nets.CheckLengths(t, p)
}
