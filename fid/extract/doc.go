// Package extract has the networks that turn pictures into feature vectors:
// the FID variant of Inception-v3 at any of its taps, the same network with
// seeded random weights, and two extractors without a network.
//
//	e, err := extract.Open("inception", extract.Options{Preset: "clean"})
//
// A network is described here once, as a plan.Net; how it is computed is
// decided in internal/cpu/plan. Weights are never downloaded: FindInception
// looks where people keep them and its error says what to fetch and where to
// put it; ImportWeights checks a file and keeps a copy that loads quickly.
//
// Other packages add extractors with Register, in an init function.
package extract
