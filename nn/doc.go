// Package nn trains networks: a tape that records operations as they run and walks
// back over them for gradients, parameters in flat slabs, layers, losses,
// optimisers, schedules, averages and checkpoints.
//
//	net := nn.NewParams(gpu.CPU(), gpu.Float32)
//	first := nn.NewLinear(net.At("0"), 2, 64)
//	last := nn.NewLinear(net.At("1"), 64, 2)
//	net.Init(seed)
//	opt := nn.NewAdam(net, nn.AdamOptions{Decay: 0.01})
//	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
//	for step := range steps {
//		tape.Run(func() {
//			x, y := tape.Input(xs), tape.Input(ys)
//			loss := nn.MSE(last.Forward(first.Forward(x).SiLU()), y, nil)
//			tape.Backward(loss)
//		})
//		opt.Step(lr(step))
//	}
//
// Operations are methods and functions of *Var, a tensor on a tape. They run at
// once; what needs no gradient is not recorded. A step allocates nothing once the
// tape has seen one like it: tensors come from the tape's arena and live until its
// next Run or Reset. Gradients of parameters add up in their slab until the
// optimiser's Step uses them; Grad returns gradients and touches none.
//
// Nothing here knows the device: package ops does. Everything works in float32 and
// in float64, which tests differentiate in. The bits of a step depend neither on
// the number of threads nor on what ran before.
//
// Misuse, say shapes that do not fit, panics; errors are for files and numbers.
package nn
