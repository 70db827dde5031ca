// Package symmflow is Symmetrical Flow Matching after "Symmetrical Flow Matching: Unified Image Generation, Segmentation, and
// Classification with Score-Based Generative Models" (Caetano et al. 2025, arXiv 2506.10634): one velocity network on a picture and its label together. As its time t goes from
// 0 to 1 the picture goes from noise to data while the label goes from data to noise. Integrated forward from noise and a given label it
// draws a picture; integrated backward from a picture and noise it reads the label, in one step or in several.
//
// A state is z = [x, y], channels of the picture and then of the label, and with s = Least
//
//	x_t = (1-(1-s)t)·ξx + t·x      u_x = x - (1-s)·ξx
//	y_t = (1-(1-s)t)·y  + t·ξy     u_y = ξy - (1-s)·y
//
// Labels are channels too: a Coding makes them of masks (the colours of a palette) or of classes (a channel filled with the class's
// number), spread by uniform noise so that they have a density, and reads them back.
//
// Kept: the path and its s, the loss and its weight of 0.7 for pictures, uniform times, the codings with their widths, Euler's method
// in counted steps, labels of one step.
// Shrunk: CelebAMask-HQ and COCO-Stuff to scenes of shapes of 32×32, MNIST to digits of 8×8 in the proof; 1,000 epochs to some thousand
// steps, networks to about a million parameters.
// Added: one channel for each class in place of their order (OneHot); times drawn towards both ends (Loss.Ends).
// Left out: the latent variant, which needs an autoencoder's weights.
// Chosen where the paper leaves it open: uniform noise lies around its code on either side; the palette of scenes (Forms).
//
//	m, err := symmflow.Open(dev, saved, decay)          // a checkpoint of fidlab train symmflow-shapes or symmflow-mnist
//	x, err := m.Generate(ctx, labels, symmflow.Options{Steps: 25, Seed: 1})
//	read, err := m.Label(ctx, x, symmflow.Options{Steps: 1, Seed: 2})
package symmflow
