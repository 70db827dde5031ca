// Package fid measures the distance between two sets of pictures, or of any
// feature vectors: Moments (streaming mean and covariance), statistics files,
// the Fréchet distance with its confidence interval.
//
// It decodes nothing and knows no network: pictures come from imageio, feature
// vectors from an Extractor (fid/extract has them).
package fid
