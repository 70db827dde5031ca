package mnist_test

import (
	"testing"

	"github.com/fidlab/fidlab/data/mnist"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/ops"
	"github.com/fidlab/fidlab/rng"
)

// A network of two layers learns the digits: one pass over two thirds of the training set
// gives more of the test set than linear classifiers reach (8.4 % errors: LeCun et al. 1998,
// pairwise; 12 % plain). The test lives here because it needs both the digits and package nn.
func TestNetworkLearnsDigits(t *testing.T) {
	train, err := mnist.Load(mnist.Train)
	if err != nil {
		t.Fatal(err)
	}
	test, err := mnist.Load(mnist.Test)
	if err != nil {
		t.Fatal(err)
	}
	const batch, count, size = 100, 40000, mnist.Width * mnist.Height
	net := nn.NewParams(gpu.CPU(), gpu.Float32)
	mlp := nn.NewMLP(net.At(""), ops.ReLU, size, 128, 10)
	net.Init(1)
	tape, opt := nn.NewTape(gpu.CPU(), gpu.Float32), nn.NewAdam(net, nn.AdamOptions{})
	pix, label := make([]float32, batch*size), make([]int32, batch)
	x, ids := gpu.CPU().From(pix, batch, size), gpu.CPU().FromInt32(label, batch)
	fill := func(s *mnist.Set, at func(i int) int) {
		for i := range batch {
			k := at(i)
			label[i] = int32(s.Labels[k])
			for j, v := range s.Images[k] {
				pix[i*size+j] = (float32(v)/255 - 0.1307) / 0.3081 // mean and deviation of the training set
			}
		}
	}
	order := rng.ForImage(1, 0, rng.Order).Perm(len(train.Labels))
	lr := nn.Cosine(2e-3, 1e-4, count/batch)
	var first, last float64
	for step := range count / batch {
		fill(train, func(i int) int { return order[step*batch+i] })
		tape.Run(func() {
			loss := nn.CrossEntropy(mlp.Forward(tape.Input(x)), ids, 0).Mean()
			tape.Backward(loss)
			if step == 0 {
				first = loss.Item()
			}
			if step >= count/batch-50 {
				last += loss.Item() / 50
			}
		})
		opt.Step(lr(step))
	}
	right := 0
	best := gpu.CPU().New(gpu.Int32, batch)
	for lo := 0; lo < len(test.Labels); lo += batch {
		fill(test, func(i int) int { return lo + i })
		tape.Run(func() {
			tape.NoGrad(func() { ops.ArgMax(best, nil, mlp.Forward(tape.Input(x)).Value()) })
		})
		for i, k := range best.I32() {
			if k == label[i] {
				right++
			}
		}
	}
	accuracy := float64(right) / float64(len(test.Labels))
	t.Logf("loss %.3f to %.3f, accuracy %.4f on %d test images", first, last, accuracy, len(test.Labels))
	if accuracy < 0.93 || last > first/4 {
		t.Errorf("loss %.3f to %.3f, accuracy %.4f, want a quarter of the loss and 0.93", first, last, accuracy)
	}
}
