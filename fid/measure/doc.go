// Package measure compares what a model says with what is true, where package fid compares
// sets of pictures: segmentations by the table of what was taken for what.
//
//	t := measure.NewConfusion(5)
//	err := t.Add(truth.IDs, said.IDs)
//	t.MeanIoU()
package measure
