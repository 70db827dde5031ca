// Command mnistenc trains the encoder "mnist" of fid/extract and writes its
// weights:
//
//	go run -tags native ./scripts/mnistenc -o fid/extract/mnist.safetensors
//
// The network is a small classifier of handwritten digits, trained on MNIST
// train only. Its 64 features are the fully connected layer before the last
// rectifier, so that they vary smoothly and take both signs; the head that
// classifies them is kept in the file, which lets tests recompute the accuracy
// from the features alone.
//
//	input 1×28×28, in [0,1]
//	conv1 3×3 → 16, ReLU, maximum over 2×2        16×14×14
//	conv2 3×3 → 32, ReLU, maximum over 2×2        32× 7× 7
//	conv3 3×3 → 64, ReLU                          64× 7× 7
//	feat  fully connected, 3136 → 64              the features
//	head  ReLU, dropout while training, 64 → 10   logits
//
// A batch is cut into shards of fixed size that workers take in any order;
// their gradients are summed in shard order. The result therefore depends on
// the recipe, the seed and the arithmetic library, not on the thread count.
// Recipe and seed are written into the file.
package main
