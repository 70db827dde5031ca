// Package flowturbo is FlowTurbo after "FlowTurbo: Towards Real-time Flow-Based Image Generation with Velocity Refiner" (Zhao et al. 2024,
// arXiv 2409.18128): the velocity of a trained flow hardly changes late in sampling, so most late evaluations give way to a small network
// that predicts the change, and of Heun's two evaluations a step one is the step's before.
//
// The blocks are sampler.FlowTurbo, the loss is train.Refining; here are the refiner that is trained by it on any network on the flow's
// path (fidlab train refiner --on MODEL) and the proof.
//
// Kept: the three kinds of blocks and their order, the refiner's kind, start and loss, the teacher's own way between two times.
// Shrunk: SiT-XL on ImageNet to the transformer of MNIST's digits that ships, 28 blocks to 6, so that a refiner of one block is dearer.
// Changed: a last step to the data is Euler's in every block, as of Heun's method here, and refiners learn no times below 0.05: velocities
// have no limit where there is no noise. Left out: compilation for a fixed shape.
package flowturbo
