// Package fid measures the distance between two sets of pictures, or of any
// feature vectors: Moments (streaming mean and covariance), Stats and their
// files, the Fréchet distance by the route that keeps the digits, its
// confidence interval, and further metrics by name.
//
// It decodes nothing and knows no network: pictures come from imageio, feature
// vectors from an Extractor (fid/extract has them).
//
//	ref, _, err := fid.StatsOf(ctx, refSource, extractor, fid.CollectOptions{})
//	gen, err := fid.ReadStats("gen.npz")
//	res, err := fid.Compare(ctx, ref, gen, fid.Options{Metrics: []string{"fid"}})
//
// The one rule to know: with no more vectors than features a covariance is
// singular, and any route over it loses half of the digits. Stats therefore
// keep the vectors themselves in that case, also in files, and Frechet uses
// them without being told.
//
// Sums run in the order of the vectors, in blocks of a fixed size, so results
// are the same bits at any batch size and number of threads. An input that is
// broken or does not belong is a *BadInputError, one whose numbers mean nothing
// a *NumericError with the figure that says why.
package fid
