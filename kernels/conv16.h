// Where the operands of a convolution of 16-bit channels lie.
#pragma once
#include "mma_finish.h"

inline namespace thisfile {

// The sizes of a convolution. A pixel of x has c channels, the first `at` into its `pitch` values.
struct Conv16 {
    int n, h, w, c, pitch, at, o, kh, kw, oh, ow, strideH, strideW, dilation, top, left;

    __device__ __forceinline__ int rows() const { return n * oh * ow; }
    __device__ __forceinline__ int depth() const { return kh * kw * c; }
};

// Where a row of the product begins in x: its first pixel, perhaps outside, as a number among all
// pixels and as row and column in halves of a word. A row past the end lies in no picture.
struct Corner {
    int pixel, place;
    __device__ __forceinline__ Corner(const Conv16& p, int row)
    {
        if (row >= p.rows()) {
            pixel = 0;
            place = static_cast<int>(0x80000000u);
            return;
        }
        const unsigned q = static_cast<unsigned>(row) / static_cast<unsigned>(p.ow);
        const unsigned image = q / static_cast<unsigned>(p.oh);
        const int y = static_cast<int>(q - image * p.oh) * p.strideH - p.top;
        const int x = static_cast<int>(row - q * p.ow) * p.strideW - p.left;
        pixel = (static_cast<int>(image) * p.h + y) * p.w + x;
        place =
            static_cast<int>(static_cast<unsigned>(y) << 16 | (static_cast<unsigned>(x) & 0xffffu));
    }
    __device__ __forceinline__ bool inside(const Conv16& p, int dy, int dx) const
    {
        const int y = (place >> 16) + dy, x = static_cast<short>(place) + dx;
        return static_cast<unsigned>(y) < static_cast<unsigned>(p.h) &&
               static_cast<unsigned>(x) < static_cast<unsigned>(p.w);
    }
};

} // namespace thisfile
