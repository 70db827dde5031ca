//go:build native && cgo && hostdev

// The model of wgmma. A lane keeps its products until it waits for their group; then the warp
// computes its own 16 rows of each, in order. Compiled without sanitizers, as host.cc is.
#include "host_fiber.h"
#include <immintrin.h>

namespace host {

namespace {

constexpr uint32_t nan = 0xffffffffu;

// A matrix in shared memory, as its descriptor says; PTX ISA, "Matrix descriptor format".
struct Matrix {
    uint64_t leading, stride;
    const unsigned char* first;
    bool trans;
    const char* what;
    Site at;

    Matrix(uint64_t d, bool trans, const char* what, Site at) : trans(trans), what(what), at(at)
    {
        leading = (d >> 16 & 0x3fff) << 4;
        stride = (d >> 32 & 0x3fff) << 4;
        if (d >> 62 != 1 || (d >> 49 & 7))
            die("wgmma, %s:%d: %s is not of the 128-byte swizzle, which alone is modelled", at.file,
                at.line, what);
        // 18 bits of the address; shared memory has fewer bytes than they count.
        const uintptr_t base = reinterpret_cast<uintptr_t>(dynamicShared);
        first = dynamicShared + ((((d & 0x3fff) << 4) - base) & 0x3ffff);
    }

    // 8 values along row r: of k = 8 c to 8 c + 7, or (trans) of columns 8 c to 8 c + 7 and k = r.
    const unsigned char* piece(int r, int c) const
    {
        const uint64_t offset = trans ? static_cast<uint64_t>(c / 8) * leading + (c % 8) * 16
                                      : static_cast<uint64_t>(c) * 16;
        uintptr_t a = reinterpret_cast<uintptr_t>(first) + offset + (r % 8) * 128 +
                      static_cast<uint64_t>(r / 8) * stride;
        a ^= (a >> 7 & 7) << 4;
        return asyncView(reinterpret_cast<const void*>(a), 16, what, at);
    }
};

float valueOf(uint16_t bits, bool isHalf)
{
    return isHalf ? toFloat(half{bits}) : toFloat(bf16{bits});
}

void take8(float* to, size_t step, const unsigned char* piece, bool isHalf)
{
    uint16_t v[8];
    copyBytes(v, piece, 16);
    for (int i = 0; i < 8; i++)
        to[static_cast<size_t>(i) * step] = valueOf(v[i], isHalf);
}

bool same(const Product& x, const Product& y)
{
    return x.count == y.count && x.isHalf == y.isHalf && x.trans == y.trans && x.add == y.add &&
           x.held == y.held && x.left == y.left && x.right == y.right;
}

Accumulators* accumulatorsOf(Fiber& f, const float* d)
{
    for (Accumulators& a : f.wgmma->accumulators)
        if (a.d == d) return &a;
    return nullptr;
}

void untouched(const Accumulators& a, Site at)
{
    for (int i = 0; i < a.count; i++)
        if (bitCast<uint32_t>(a.d[i]) != nan)
            die("wgmma, %s:%d: accumulator %d was written while the product was under way", at.file,
                at.line, i);
}

void compute(Fiber* lanes, int which)
{
    const Product& p = lanes[0].wgmma->products.v[which];
    const int columns = 2 * p.count;
    float a[16][16];
    alignas(32) float b[16][256];
    for (int l = 0; l < 32; l++) {
        const Product& q = lanes[l].wgmma->products.v[which];
        if (!same(p, q))
            die("wgmma, %s:%d: lanes 0 and %d have different products", p.at.file, p.at.line, l);
        if (!p.held) continue;
        for (int i = 0; i < 4; i++) {
            if (q.registers[i] != q.a[i])
                die("wgmma, %s:%d: register %d of the left matrix was written while the product "
                    "was under way",
                    p.at.file, p.at.line, i);
            for (int e = 0; e < 2; e++)
                a[(l >> 2) + 8 * (i & 1)][2 * (l & 3) + e + 8 * (i >> 1)] =
                    valueOf(static_cast<uint16_t>(q.a[i] >> 16 * e), p.isHalf);
        }
    }
    if (!p.held) {
        const Matrix left(p.left, false, "the left matrix", p.at);
        const int row = lanes[0].warp % 4 * 16;
        for (int r = 0; r < 16; r++)
            for (int c = 0; c < 2; c++)
                take8(&a[r][8 * c], 1, left.piece(row + r, c), p.isHalf);
    }
    const Matrix right(p.right, p.trans, "the right matrix", p.at);
    if (p.trans)
        for (int k = 0; k < 16; k++)
            for (int c = 0; c < columns / 8; c++)
                take8(&b[k][8 * c], 1, right.piece(k, c), p.isHalf);
    else
        for (int n = 0; n < columns; n++)
            for (int c = 0; c < 2; c++)
                take8(&b[8 * c][n], 256, right.piece(n, c), p.isHalf);
    Accumulators* held[32];
    for (int l = 0; l < 32; l++)
        held[l] = accumulatorsOf(lanes[l], lanes[l].wgmma->products.v[which].d);
    for (int row = 0; row < 16; row++)
        for (int n = 0; n < columns; n += 8) {
            __m256 sum = _mm256_setzero_ps();
            for (int k = 0; k < 16; k++)
                sum = _mm256_fmadd_ps(_mm256_set1_ps(a[row][k]), _mm256_load_ps(&b[k][n]), sum);
            alignas(32) float r[8];
            _mm256_store_ps(r, sum);
            for (int e = 0; e < 8; e++) {
                float& d = held[(row & 7) * 4 + e / 2]->value[n / 2 + 2 * (row >> 3) + (e & 1)];
                d = p.add ? d + r[e] : r[e];
            }
        }
    for (Accumulators* h : held)
        h->open--;
}

// Does the groups but the last in[0] of them, in every lane alike.
void combineWait(Fiber* lanes, unsigned)
{
    Fiber& first = lanes[0];
    const int groups = first.wgmma->groups.n, keep = static_cast<int>(first.in[0]);
    for (int l = 1; l < 32; l++) {
        const Fiber& f = lanes[l];
        bool alike = f.wgmma->groups.n == groups &&
                     f.wgmma->products.n == first.wgmma->products.n && f.in[0] == first.in[0];
        for (int i = 0; alike && i < groups; i++)
            alike = f.wgmma->groups.v[i] == first.wgmma->groups.v[i];
        if (!alike) die("wgmmaWait: lanes 0 and %d have different groups", l);
    }
    if (groups <= keep) return;
    const int done = groups - keep, end = first.wgmma->groups.v[done - 1];
    for (int i = 0; i < end; i++)
        compute(lanes, i);
    for (int l = 0; l < 32; l++) {
        Fiber& f = lanes[l];
        for (int i = 0; i < f.wgmma->accumulators.n;) {
            Accumulators& a = f.wgmma->accumulators.v[i];
            if (a.open) {
                i++;
                continue;
            }
            untouched(a, f.wgmma->products.v[end ? end - 1 : 0].at);
            copyBytes(a.d, a.value, static_cast<size_t>(a.count) * sizeof(float));
            f.wgmma->accumulators.drop(i, 1);
        }
        f.wgmma->products.drop(0, end);
        f.wgmma->groups.drop(0, done);
        for (int& g : f.wgmma->groups)
            g -= end;
    }
}

#if defined(HOST_TSAN)
// A product reads its matrices from when it is asked for until it is waited for: one lane says so
// at both ends, for its warp.
void reads(const Product& p, int warp)
{
    const auto piece = [](const unsigned char* view) {
        const unsigned char* base = asyncView(dynamicShared, 1, "", {"", 0});
        __tsan_read_range(dynamicShared + (view - base), 16);
    };
    if (!p.held) {
        const Matrix left(p.left, false, "the left matrix", p.at);
        for (int r = 0; r < 32; r++)
            piece(left.piece(warp % 4 * 16 + r / 2, r % 2));
    }
    const Matrix right(p.right, p.trans, "the right matrix", p.at);
    for (int i = 0; i < 4 * p.count; i++)
        piece(p.trans ? right.piece(i % 16, i / 16) : right.piece(i / 2, i % 2));
}
#endif

} // namespace

void wgmma(const Product& p)
{
    Fiber* f = current();
    wholeWarp(Primitive::wgmmaWait, p.at);
    if ((blockSize.x * blockSize.y * blockSize.z) % 128)
        die("wgmma, %s:%d: the block's threads are no multiple of 128", p.at.file, p.at.line);
    if (!f->wgmma->fenced)
        die("wgmma, %s:%d: no wgmmaFence since the last wait", p.at.file, p.at.line);
    Accumulators* a = accumulatorsOf(*f, p.d);
    if (!a) {
        if (f->wgmma->accumulators.n == 4)
            die("wgmma, %s:%d: more than 4 sets of accumulators are under way", p.at.file,
                p.at.line);
        a = &f->wgmma->accumulators.v[f->wgmma->accumulators.n++];
        a->d = p.d;
        a->count = p.count;
        a->open = 0;
        copyBytes(a->value, p.d, static_cast<size_t>(p.count) * sizeof(float));
        fillBytes(p.d, static_cast<size_t>(p.count) * sizeof(float), 0xff);
    }
    if (a->count != p.count)
        die("wgmma, %s:%d: %d accumulators, and %d are under way", p.at.file, p.at.line, p.count,
            a->count);
    untouched(*a, p.at);
    a->open++;
    f->wgmma->products.add(p, "products under way");
    for (uint64_t x : {p.left, p.right, static_cast<uint64_t>(p.count)})
        f->wgmma->trail = (f->wgmma->trail ^ x) * 0x9e3779b97f4a7c15u + 1;
#if defined(HOST_TSAN)
    if (f->lane == 0) reads(p, f->warp);
#endif
}

void wgmmaFence()
{
    current()->wgmma->used = true;
    current()->wgmma->fenced = true;
}

void wgmmaCommit()
{
    Fiber* f = current();
    f->wgmma->used = true;
    f->wgmma->groups.add(f->wgmma->products.n, "groups of products");
}

void wgmmaWait(int pending, Site at)
{
    Fiber* f = current();
    wholeWarp(Primitive::wgmmaWait, at);
    f->in[0] = static_cast<uint64_t>(pending);
    f->wgmma->fenced = false;
#if defined(HOST_TSAN)
    const int groups = f->wgmma->groups.n;
    if (f->lane == 0 && groups > pending)
        for (int i = 0; i < f->wgmma->groups.v[groups - pending - 1]; i++)
            reads(f->wgmma->products.v[i], f->warp);
#endif
    meet(Primitive::wgmmaWait, ~0u, at, false, combineWait);
}

void endProducts(Fiber* f)
{
    if (f->wgmma->products.n)
        die("this thread has ended while a wgmma is under way, %s:%d",
            f->wgmma->products.v[0].at.file, f->wgmma->products.v[0].at.line);
}

} // namespace host
