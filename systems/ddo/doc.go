// Package ddo is direct discriminative optimisation after "Direct Discriminative Optimization: Your Likelihood-Based Visual Generative Model
// Is Secretly a GAN Discriminator" (Zheng et al. 2025, arXiv 2503.01103): a trained generator with a likelihood is fine-tuned to tell data
// from what a frozen copy of itself draws, by how much likelier it finds them than the copy does. There is no other discriminator.
//
// The loss is train.Discriminative, the bound that stands for the likelihood of networks that remove noise train.Denoising's Bound, the
// exact likelihood of sequences models/token's LogP; here are the rounds with their pools and the choice of weights (Finetune, fidlab
// system ddo finetune), and the proof.
//
// Kept: the loss with α and β, one time and one noise an example for network and reference alike, fakes drawn once a round by the
// reference, a few rounds, the choice by FID. Changed: errors are summed over a picture's values, so that a β is of nats; the source's
// scale with its own weights.
// Shrunk: EDM on CIFAR-10 and VAR on ImageNet to networks of digits that are too small for them. The source has published no training
// code; what its text leaves open is said where it is decided.
package ddo
