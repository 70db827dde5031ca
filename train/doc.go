// Package train runs training jobs: networks with their optimisers, a loss built on a tape,
// a log, averages of the weights, and checkpoints from which a run goes on bit for bit.
//
//	net := nn.NewParams(gpu.CPU(), gpu.Float32)
//	mlp := nn.NewMLP(net.At(""), ops.SiLU, 2, 64, 2)
//	s := train.Settings{Steps: 1000, Batch: 64, Optimizer: "adamw", Rate: 1e-3, EMA: []float64{0.999}}
//	net.Init(s.Seeds.Init)
//	job := &train.Job{
//		Name: "points", Config: recipe,
//		Nets: []*train.Network{{Name: "net", Params: net}},
//		Loss: func(b *train.Batch) *nn.Var { ... },
//	}
//	r, err := train.Run(ctx, job, train.Config{Settings: s, Dir: "out", SaveEvery: 100})
//
// Nothing random has a state: the examples of a step, their noise and the masks of its layers
// are functions of seeds and of the number of the step, so a checkpoint needs the number alone,
// and a run that was killed and went on ends in the same bits, its log included, as one
// that was not. For that reason the log has no clock; clock.csv has.
//
// Besides the loop there are the losses of diffusion, flow and consistency models for any
// models.Net (Denoising, Consistency), and a Feed of examples in memory.
package train
