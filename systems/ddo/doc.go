// Package ddo fine-tunes networks by direct discriminative optimisation after "Direct Discriminative Optimization: Your Likelihood-Based
// Visual Generative Model Is Secretly a GAN Discriminator" (Zheng et al. 2025, arXiv 2503.01103).
package ddo
