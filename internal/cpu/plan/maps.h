//go:build native && cgo

// maps.h - operations on maps that oneDNN has no primitive for. See maps.c.
#ifndef FIDLAB_PLAN_MAPS_H
#define FIDLAB_PLAN_MAPS_H
#include "primitives.h"

// fl_copy_channels writes src to the channels of dst from `channel` on, and zeros to the lanes
// after dst's last channel when it reaches them.
void fl_copy_channels(const fl_tensor* s, const char* src, const fl_tensor* d, char* dst,
                      int channel);
// fl_split_channels writes the bf16 terms of a float32 map: high, low, high.
void fl_split_channels(const fl_tensor* s, const char* src, const fl_tensor* d, char* dst);
// fl_global_average writes the mean of each channel, summed in double, pixel after pixel.
void fl_global_average(const fl_tensor* s, const char* src, float* dst);
// fl_plain writes src as [C][H][W] float32.
void fl_plain(const fl_tensor* s, const char* src, float* out);
#endif
