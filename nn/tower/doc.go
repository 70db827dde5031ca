// Package tower has bodies of encoders and decoders: stacks of transformer blocks with a
// cache of keys and values, vision transformers, a small convolutional network, a causal
// text transformer, the contrastive pair of both (CLIP), and a gated recurrent unit.
package tower
