package unet_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
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
	return fmt.Sprintf("bits=%x", h.Sum(nil))
}

// Steps have the same bits at any number of threads; each is a process of its own.
func TestBitsAtAnyNumberOfThreads(t *testing.T) {
	if n := os.Getenv("FIDLAB_TEST_UNET_THREADS"); n != "" {
		threads, err := strconv.Atoi(n)
		if err != nil {
			t.Fatal(err)
		}
		cpu.SetThreads(threads)
		fmt.Println(bits(), cpu.Workers())
		return
	}
	seen := map[string][]int{}
	for _, n := range []int{1, 2, 5} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestBitsAtAnyNumberOfThreads$")
		cmd.Env = append(os.Environ(), fmt.Sprint("FIDLAB_TEST_UNET_THREADS=", n))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%d threads: %v\n%s", n, err, out)
		}
		_, line, ok := strings.Cut(string(out), "bits=")
		hash, rest, _ := strings.Cut(line, " ")
		if got, _, _ := strings.Cut(rest, "\n"); !ok || got != fmt.Sprint(n) {
			t.Fatalf("%d threads: the process says %q", n, out)
		}
		seen[hash] = append(seen[hash], n)
	}
	if len(seen) != 1 {
		t.Errorf("the bits depend on the number of threads: %v", seen)
	}
}
