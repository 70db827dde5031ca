//go:build native && cgo && hostdev

// The models of barriers in shared memory, named barriers, boxes of tensors and the counts of
// registers. Compiled without sanitizers, as host.cc is. For ThreadSanitizer a box is written when
// it is asked for, by the thread that asks, and what waits for it comes after: of a copy that lands
// any time between, that is the strictest view.
#include "host_fiber.h"
#include "host_map.h"
#include <cstdio>

namespace host {

namespace {

// A barrier's word: bit 0 the phase's parity, from bit 1 on 20 bits of the count and 20 of the
// arrivals that lack, then 21 of the bytes that lack (signed), and 01 at the end.
struct Word {
    unsigned parity, count, lacking;
    int bytes;
};
constexpr int maxCount = (1 << 20) - 1;

bool readWord(const unsigned long long* barrier, Word& w)
{
    unsigned long long v;
    copyBytes(&v, barrier, sizeof v);
    w.parity = v & 1;
    w.count = v >> 1 & maxCount;
    w.lacking = v >> 21 & maxCount;
    w.bytes = static_cast<int>(static_cast<long long>(v << 2) >> 43);
    return v >> 62 == 1;
}

void writeWord(unsigned long long* barrier, const Word& w)
{
    const unsigned long long v = w.parity | static_cast<unsigned long long>(w.count) << 1 |
                                 static_cast<unsigned long long>(w.lacking) << 21 |
                                 (static_cast<unsigned long long>(w.bytes) & 0x1fffff) << 41 |
                                 1ull << 62;
    copyBytes(barrier, &v, sizeof v);
}

struct Box {
    unsigned char* to;
    Map map;
    long long c[5];
    unsigned long long* barrier;
};

struct Named {
    int threads = 0, arrived = 0;
    unsigned opened = 0;
    List<Fiber*, 1024> waiting;
    char order[2] = {}; // ThreadSanitizer's, in turn
};

// Of the block.
struct {
    bool used = false;
    unsigned char view[256 << 10]; // what the asynchronous proxy sees of the dynamic shared memory
    List<Box, 256> boxes;          // under way
    List<Fiber*, 1024> waiting;    // at barriers in shared memory
    List<Fiber*, 256> initialised; // by these, and no fence since
    Named named[16];
    int registers[32], warps = 0; // of each warp, if warps is not 0
} b;

void begun()
{
    if (b.used) return;
    b.used = true;
    if (sharedSize() > sizeof b.view) die("%zu bytes of shared memory", sharedSize());
    fillBytes(b.view, sharedSize(), 0xff);
    for (Named& n : b.named)
        n.threads = n.arrived = n.waiting.n = 0;
}

int threadsOfBlock() { return static_cast<int>(blockSize.x * blockSize.y * blockSize.z); }

// Registers that each thread has at the start, as many as the launch bound allows.
int startRegisters()
{
    const int n = 65536 / threadsOfBlock() / 8 * 8;
    return n < 256 ? n : 256;
}

Word wordOf(const unsigned long long* barrier, const char* what, Site at)
{
    if (reinterpret_cast<uintptr_t>(barrier) & 7 || !inShared(barrier, 8))
        die("%s, %s:%d: the barrier does not lie in shared memory on 8 bytes", what, at.file,
            at.line);
    Word w;
    if (!readWord(barrier, w))
        die("%s, %s:%d: the barrier has not been initialised", what, at.file, at.line);
    return w;
}

// Ends the phase if nothing lacks, and lets those go on that wait for it.
void settleWord(unsigned long long* barrier, Word w)
{
    if (w.lacking || w.bytes) {
        writeWord(barrier, w);
        return;
    }
    const unsigned ended = w.parity;
    w.parity ^= 1;
    w.lacking = w.count;
    writeWord(barrier, w);
    static Fiber* ready[1024];
    int go = 0, stay = 0;
    for (Fiber* f : b.waiting)
        if (f->awaited == barrier && f->awaitedParity == ended)
            ready[go++] = f;
        else
            b.waiting.v[stay++] = f;
    b.waiting.n = stay;
    resume(ready, go);
}

unsigned char* swizzledAt(unsigned char* p, int swizzle)
{
    uintptr_t a = reinterpret_cast<uintptr_t>(p);
    if (swizzle) a ^= (a >> 7 & ((1u << swizzle) - 1)) << 4; // 32, 64, 128 bytes: 1, 2, 3 bits
    return reinterpret_cast<unsigned char*>(a);
}

template <class F> void eachRow(const Map& m, const long long* c, F row)
{
    size_t rows = 1;
    for (int i = 1; i < m.rank; i++)
        rows *= m.box[i];
    for (size_t r = 0; r < rows; r++) {
        size_t rest = r, offset = 0;
        bool inside = true;
        for (int i = 1; i < m.rank; i++) {
            const long long x = c[i] + static_cast<long long>(rest % m.box[i]);
            rest /= m.box[i];
            inside = inside && x >= 0 && static_cast<uint64_t>(x) < m.dims[i];
            offset += inside ? static_cast<size_t>(x) * m.strides[i - 1] : 0;
        }
        row(r, inside, reinterpret_cast<const unsigned char*>(m.base) + offset);
    }
}

void land(const Box& box)
{
    const Map& m = box.map;
    const size_t bytes = static_cast<size_t>(m.box[0]) * m.element;
    eachRow(m, box.c, [&](size_t r, bool inside, const unsigned char* from) {
        for (size_t i = 0; i < bytes; i += 16) {
            unsigned char piece[16] = {};
            for (size_t k = 0; k < 16 && inside; k += m.element) {
                const long long x = box.c[0] + static_cast<long long>((i + k) / m.element);
                if (x >= 0 && static_cast<uint64_t>(x) < m.dims[0])
                    copyBytes(piece + k, from + x * m.element, m.element);
            }
            unsigned char* to = swizzledAt(box.to + r * bytes + i, m.swizzle);
            copyBytes(to, piece, 16);
            copyBytes(&b.view[static_cast<size_t>(to - dynamicShared)], piece, 16);
        }
    });
    Word w;
    if (!readWord(box.barrier, w)) die("a box has landed and its barrier is no longer one");
    w.bytes -= static_cast<int>(m.boxBytes());
    if (w.bytes < -maxCount) die("a box has landed: its barrier expected fewer bytes by 2^20");
    settleWord(box.barrier, w);
}

} // namespace

void beginAsync()
{
    b.used = false;
    b.boxes.n = b.waiting.n = b.initialised.n = b.warps = 0;
}

void endAsync()
{
    if (b.boxes.n) die("the block has ended while a box that it asked for is under way");
    if (b.used)
        for (int i = 0; i < 16; i++)
            if (b.named[i].arrived)
                die("the block has ended with %d threads of %d at the named barrier %d",
                    b.named[i].arrived, b.named[i].threads, i);
    int sum = 0;
    for (int w = 0; w < b.warps; w++) {
        sum += b.registers[w];
        if (b.registers[w] != b.registers[w & ~3])
            die("warps %d and %d of one group have taken %d and %d registers", w & ~3, w,
                b.registers[w & ~3], b.registers[w]);
    }
    if (sum > b.warps * startRegisters())
        die("the warps have taken %d registers a lane, and the block has %d", sum,
            b.warps * startRegisters());
    for (int i = 0; i < threadsOfBlock(); i++)
        if (fiberOf(i)->wgmma->trail != fiberOf(i & ~127)->wgmma->trail)
            die("warp %d has given other products to wgmma than the first one of its four", i / 32);
}

void barrierInit(unsigned long long* barrier, unsigned count, Site at)
{
    begun();
    if (reinterpret_cast<uintptr_t>(barrier) & 7 || !inShared(barrier, 8))
        die("barrierInit, %s:%d: the barrier does not lie in shared memory on 8 bytes", at.file,
            at.line);
    if (count < 1 || count > static_cast<unsigned>(maxCount))
        die("barrierInit, %s:%d: %u arrivals, want 1 to 2^20 - 1", at.file, at.line, count);
#if defined(HOST_TSAN)
    __tsan_write_range(barrier, 8);
#endif
    writeWord(barrier, {0, count, count, 0});
    b.initialised.add(current(), "barriers");
}

void barrierArrive(unsigned long long* barrier, unsigned bytes, Site at)
{
    Word w = wordOf(barrier, bytes ? "barrierExpect" : "barrierArrive", at);
    if (!w.lacking)
        die("barrierArrive, %s:%d: all %u arrivals of the phase have come already", at.file,
            at.line, w.count);
#if defined(HOST_TSAN)
    __tsan_read_range(barrier, 8);
    __tsan_release(reinterpret_cast<char*>(barrier) + w.parity);
#endif
    w.bytes += static_cast<int>(bytes);
    if (w.bytes > maxCount) die("barrierExpect, %s:%d: 2^20 bytes or more", at.file, at.line);
    w.lacking--;
    settleWord(barrier, w);
}

void barrierWait(unsigned long long* barrier, unsigned parity, Site at)
{
    const Word w = wordOf(barrier, "barrierWait", at);
    if (parity > 1) die("barrierWait, %s:%d: the parity is %u", at.file, at.line, parity);
#if defined(HOST_TSAN)
    __tsan_read_range(barrier, 8);
#endif
    if (w.parity == parity) {
        Fiber* f = current();
        f->awaited = barrier;
        f->awaitedParity = parity;
        b.waiting.add(f, "threads");
        park(Primitive::barrier, at);
    }
#if defined(HOST_TSAN)
    __tsan_acquire(reinterpret_cast<char*>(barrier) + parity);
#endif
}

void noteOfWait(const Fiber& f, char* text, size_t n)
{
    text[0] = 0;
    if (f.waits == Primitive::barrier) {
        Word w;
        readWord(static_cast<const unsigned long long*>(f.awaited), w);
        snprintf(text, n, " for the end of phase %u, which lacks %u of %u arrivals and %d bytes",
                 f.awaitedParity, w.lacking, w.count, w.bytes);
    }
    if (f.waits == Primitive::named) {
        const Named& m = *static_cast<const Named*>(f.awaited);
        snprintf(text, n, " of barrier %d; %d of %d threads are there",
                 static_cast<int>(&m - b.named), m.arrived, m.threads);
    }
}

void copyBox(void* shared, const TensorMap& map, unsigned long long* barrier, const int* c,
             int rank, Site at)
{
    begun();
    Box box = {static_cast<unsigned char*>(shared), mapOf(map), {}, barrier};
    const Map& m = box.map;
    if (m.magic != mapMagic) die("copyBox, %s:%d: this is no tensor map", at.file, at.line);
    if (m.rank != rank)
        die("copyBox, %s:%d: %d coordinates, and the map has %d dimensions", at.file, at.line, rank,
            m.rank);
    if (reinterpret_cast<uintptr_t>(shared) & 127)
        die("copyBox, %s:%d: the destination is not aligned to 128 bytes", at.file, at.line);
    const unsigned char* end = dynamicShared + sharedSize();
    if (!dynamicShared || box.to < dynamicShared || box.to + m.boxBytes() > end)
        die("copyBox, %s:%d: the destination does not lie in dynamic shared memory", at.file,
            at.line);
    const Word w = wordOf(barrier, "copyBox", at);
    for (const Fiber* f : b.initialised)
        if (f) die("copyBox, %s:%d: no fenceProxyAsync after barrierInit", at.file, at.line);
    for (int i = 0; i < rank; i++)
        box.c[i] = c[i];
#if defined(HOST_ASAN)
    eachRow(m, box.c, [&](size_t, bool inside, const unsigned char* from) {
        const long long first = box.c[0] < 0 ? 0 : box.c[0];
        const long long last = box.c[0] + m.box[0] < static_cast<long long>(m.dims[0])
                                   ? box.c[0] + m.box[0]
                                   : static_cast<long long>(m.dims[0]);
        if (!inside || first >= last) return;
        void* p = const_cast<unsigned char*>(from) + first * m.element;
        if (void* bad = __asan_region_is_poisoned(p, static_cast<size_t>(last - first) * m.element))
            __asan_report_error(__builtin_return_address(0), __builtin_frame_address(0),
                                __builtin_frame_address(0), bad, 0, m.element);
    });
#endif
#if defined(HOST_TSAN)
    // A swizzle only permutes what lies in the box.
    __tsan_read_range(barrier, 8);
    __tsan_write_range(shared, m.boxBytes());
    __tsan_release(reinterpret_cast<char*>(barrier) + w.parity);
#endif
    (void)w;
    const int order = orderOfThreads();
    if (order == 1 || (order > 1 && randomNumber() % 2))
        land(box);
    else
        b.boxes.add(box, "boxes under way");
}

bool landBox()
{
    if (!b.boxes.n) return false;
    int i = 0;
    if (orderOfThreads() > 1)
        i = static_cast<int>(randomNumber() % static_cast<unsigned>(b.boxes.n));
    else // one that is waited for: the others come later
        for (int k = 0; k < b.boxes.n; k++) {
            bool awaited = false;
            for (const Fiber* f : b.waiting)
                awaited = awaited || f->awaited == b.boxes.v[k].barrier;
            if (awaited) {
                i = k;
                break;
            }
        }
    Box box;
    copyBytes(&box, &b.boxes.v[i], sizeof box);
    b.boxes.drop(i, 1);
    land(box);
    return true;
}

void fenceProxyAsync()
{
    begun();
    for (Fiber*& f : b.initialised)
        if (f == current()) f = nullptr;
    copyBytes(b.view, dynamicShared, sharedSize());
}

const unsigned char* asyncView(const void* p, size_t n, const char* what, Site at)
{
    const unsigned char* q = static_cast<const unsigned char*>(p);
    if (!dynamicShared || q < dynamicShared || q + n > dynamicShared + sharedSize())
        die("wgmma, %s:%d: %s does not lie in dynamic shared memory", at.file, at.line, what);
    begun();
    return &b.view[static_cast<size_t>(q - dynamicShared)];
}

void namedBarrier(int id, int threads, bool wait, Site at)
{
    begun();
    Fiber* f = current();
    if (id < 1 || id > 15 || threads < 32 || threads % 32 || threads > threadsOfBlock())
        die("%s, %s:%d: barrier %d of %d threads; want 1 to 15, and a multiple of 32",
            wait ? "namedSync" : "namedArrive", at.file, at.line, id, threads);
    Named& n = b.named[id];
    if (n.arrived && n.threads != threads)
        die("%s, %s:%d: barrier %d of %d threads, and others are there for %d",
            wait ? "namedSync" : "namedArrive", at.file, at.line, id, threads, n.threads);
    n.threads = threads;
    n.arrived++;
#if defined(HOST_TSAN)
    char* order = &n.order[n.opened % 2];
    __tsan_release(order);
#endif
    if (wait) n.waiting.add(f, "threads");
    if (n.arrived == threads) {
        n.arrived = 0;
        n.opened++;
        const int ready = n.waiting.n;
        n.waiting.n = 0;
        resume(n.waiting.v, ready);
    }
    if (!wait) return;
    f->awaited = &n;
    park(Primitive::named, at);
#if defined(HOST_TSAN)
    __tsan_acquire(order);
#endif
}

void setRegisters(int n, bool up, Site at)
{
    Fiber* f = current();
    wholeWarp(Primitive::registers, at);
    const int start = startRegisters();
    if (!b.warps)
        for (b.warps = 0; b.warps < threadsOfBlock() / 32; b.warps++)
            b.registers[b.warps] = start;
    const int now = b.registers[f->warp];
    if (threadsOfBlock() % 128 || n % 8 || n < 24 || n > 256)
        die("registers, %s:%d: %d registers in a block of %d threads; want multiples of 8 from 24 "
            "to 256, and of 128",
            at.file, at.line, n, threadsOfBlock());
    if (up ? n < now : n > now)
        die("registers%s, %s:%d: %d registers, and a thread has %d", up ? "Up" : "Down", at.file,
            at.line, n, now);
    f->in[0] = static_cast<uint64_t>(n);
    meet(Primitive::registers, ~0u, at, false, [](Fiber* lanes, unsigned) {
        b.registers[lanes[0].warp] = static_cast<int>(lanes[0].in[0]);
    });
}

} // namespace host
