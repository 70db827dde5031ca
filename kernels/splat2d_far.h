// What the two kernels of far pixels share.
#pragma once

#include "splat2d_tile.h"

namespace splat {

// q at a pixel, infinite where the Gaussian does not reach.
__device__ __forceinline__ float reached(float4 place, float4 shape, int4 box, int x, int y,
                                         float px, float py)
{
    float u;
    const float q = distance(place, shape.x, px - place.x, py - place.y, u);
    return x >= box.x && x < box.z && y >= box.y && y < box.w && q <= shape.z ? q : INFINITY;
}
// o exp(near - q). Only one with o = 0 can be nearer than near; what it would weigh is kept finite.
__device__ __forceinline__ float weight(float o, float q, float near)
{
    return o * __expf(fminf(near - q, 60.f));
}

// Where feature k of pixel p of an image lies.
__device__ __forceinline__ size_t element(size_t image, size_t p, int k, int c, size_t area,
                                          int planar)
{
    return planar ? (image * c + k) * area + p : (image * area + p) * c + k;
}

} // namespace splat
