// Rows that lie in groups: where a block's tile of them is. Where groups begin is known to the device
// alone.
#pragma once
#include "device.h"

inline namespace thisfile {

// Rows of one group, or, of group `groups`, those that no group has.
struct Part {
    int group, first, count, row0; // the tile begins at row first + row0
};

// Where group g begins, within the rows whatever the offsets say.
__device__ __forceinline__ int begin(const int* offsets, int g, int rows)
{
    return min(max(offsets[g], 0), rows);
}

// Tile number `tile` of the groups' tiles of `edge` rows, one group after the other; group -1 when
// there are fewer. Every warp finds it by itself, 32 groups at a time.
__device__ __forceinline__ Part findPart(const int* offsets, int groups, int rows, int edge,
                                         int tile)
{
    constexpr unsigned all = 0xffffffffu;
    const int lane = threadIdx.x & 31;
    int before = 0; // tiles of groups that were looked at
    for (int from = 0; from <= groups; from += 32) {
        const int g = from + lane;
        int first = 0, count = 0;
        if (g <= groups) {
            first = begin(offsets, g, rows);
            count = max(0, (g < groups ? begin(offsets, g + 1, rows) : rows) - first);
        }
        const int tiles = (count + edge - 1) / edge;
        int sum = tiles;
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
            const int v = __shfl_up_sync(all, sum, d);
            if (lane >= d) sum += v;
        }
        const unsigned past = __ballot_sync(all, before + sum > tile);
        if (past != 0) {
            const int who = __ffs(static_cast<int>(past)) - 1;
            const int in = tile - before - __shfl_sync(all, sum - tiles, who);
            return {from + who, __shfl_sync(all, first, who), __shfl_sync(all, count, who),
                    in * edge};
        }
        before += __shfl_sync(all, sum, 31);
    }
    return {-1, 0, 0, 0};
}

} // namespace thisfile
