package codec

import "github.com/fidlab/fidlab/models/vq"

// The presets are small codecs that proofs and fixtures share.

// ShapesVAE is "shapes-vae": 32×32×3 to 8×8×4 and back.
func ShapesVAE() Config {
	return Config{Channels: 3, Latent: 4, Widths: []int{32, 64, 64}, Blocks: 1, Groups: 8}
}

// ShapesVQ is "shapes-vq": 32×32×3 to 8×8 indices of 256 codes of width 8, and back.
func ShapesVQ() VQConfig {
	return VQConfig{
		Config: Config{Channels: 3, Latent: 8, Widths: []int{32, 64, 64}, Blocks: 1, Groups: 8},
		Book:   vq.Config{Codes: 256, Width: 8, Average: true, Start: vq.FirstBatch},
	}
}

// ShapesViT is "shapes-vit": 32×32×3 to 64 indices, one a patch of 4×4, of 256 unit codes of
// width 8, and back. The codes are averages: trained by gradients, as in the paper, an eighth
// to a third of them is ever used on these pictures.
func ShapesViT() ViTConfig {
	return ViTConfig{
		Channels: 3, Size: 32, Patch: 4, Width: 64, Heads: 4, Depth: 3, Latent: 8,
		Codes: &vq.Config{Codes: 256, Width: 8, Normalize: true, Average: true, Start: vq.FirstBatch},
	}
}

// MotionVQ is "motion-vq": a motion of that many features a frame to one index for four frames,
// of 256 codes of width 16, and back.
func MotionVQ(channels int) MotionConfig {
	return MotionConfig{Channels: channels, Width: 64, Codes: vq.ResidualConfig{
		Levels: 1, Book: vq.Config{Codes: 256, Width: 16, Average: true, Commit: 0.02, Start: vq.FirstBatch},
	}}
}
