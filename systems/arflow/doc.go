// Package arflow is ARFlow after "ARFlow: Autoregressive Flow with Hybrid Linear Attention" (Hui et al. 2025, arXiv 2501.16085): a flow's
// transformer that learns from sequences of noised pictures of a class at rising times, so that each picture sees noisier ones. Softmax attention is within a
// picture, linear attention with a state that decays across them (Hybrid). When it draws, the state carries all earlier steps.
//
// Net is a models.Stateful: package sampler/network keeps its states, a matrix for each head, block, sample and half of the guidance, and
// sampler.Run lets them go on once a step, by any solver of one evaluation a step. Loss makes sequences of Groups; Losses asks what the
// past is worth. The solver is sampler.FlowSDE.
//
// Kept: the block as the authors' code has it, with the names of its weights (LoadPublished); gates that cumulate along the tokens of a
// picture, an asymmetry of that code; sequences of five in order of time with noise of their own; a state of earlier pictures alone; their optimiser;
// Euler-Maruyama with a last step of 0.04.
// Shrunk: latents of ImageNet to digits of 8×8 by class, 0.15 M parameters; 400,000 steps to some thousand.
// Changed: a step's gradient is clipped to the norm 1, not single ones at 3; rates are those of networks this small; all channels are
// guided.
// Added: the gate's mean for all tokens, and none (Gate); chunks that are less than a picture (Config.Parts), to be compared with; digits in
// hidden styles, which say to the past what no class says.
//
//	net, length, err := arflow.Open(dev, saved, decay)   // a checkpoint of fidlab train arflow or arflow-hidden
//	x, err := arflow.Draw(ctx, net, arflow.Request{N: 16, Steps: 50, Guidance: 1.5})
//	v, next := net.Step(x, t, models.Inputs{Classes: y}, past)
package arflow
