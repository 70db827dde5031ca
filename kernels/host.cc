//go:build native && cgo && hostdev

// The fiber scheduler of the host build. A block is one fiber for each CUDA thread, all on the
// calling OS thread; a fiber runs until it waits at a barrier or a warp primitive. Blocks run one
// after the other. FIDLAB_HOST_ORDER sets the order in which blocks start and threads are woken:
// 0 forward, 1 backward with every thread as far ahead as it can get, any other number random from
// that seed; a result that changes with it shows a missing barrier.
//
// This file is compiled without sanitizers even in a sanitized build and tells them about fibers
// and barriers itself (HOST_ASAN, HOST_TSAN). For ThreadSanitizer two blocks in a row are
// concurrent, and so are the threads of a block, except for what barriers and fences order.
#include "host_fiber.h"
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <sys/mman.h>

// Saves the callee-saved registers and the stack pointer in *save, then continues at to (host_switch.cc).
extern "C" void fidlab_host_switch(void** save, void* to);

namespace host {

Thread* self;
uint3 blockIndex;
dim3 blockSize, gridSize;
unsigned char* dynamicShared;

namespace {

#if defined(HOST_TSAN)
constexpr size_t stackSize = 32 << 10; // its shadow is cleared for every thread
#else
constexpr size_t stackSize = 256 << 10;
#endif
constexpr size_t guardSize = 4096;
constexpr int maxThreads = 1024;

struct Scheduler {
    std::mutex launching;
    const Kernel* kernel = nullptr;
    void** parameters = nullptr;
    size_t sharedSize = 0;
    int order = 0;
    uint64_t random = 0;

    Fiber* fibers = nullptr; // maxThreads, with stacks, made at the first launch
    Warp warps[maxThreads / 32];
    Fiber *head = nullptr, *tail = nullptr; // those that can run
    Fiber* running = nullptr;
    int threads = 0, live = 0;
    unsigned block = 0; // counts all blocks

    // The block's barrier.
    Fiber* waiting[maxThreads];
    int waitingCount = 0, trueCount = 0, lastCount = 0;

    void* mainStackPointer = nullptr;
    void* mainTsan = nullptr;
    void* mainFakeStack = nullptr;
    const void* mainStack = nullptr;
    size_t mainStackSize = 0;
    char starts = 0, ends = 0; // ThreadSanitizer orders a launch's beginning and end by these
    char fence = 0, barriers[2][2] = {};
} s;

uint32_t nextRandom()
{
    s.random = s.random * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(s.random >> 33);
}

template <class T> void arrange(T* v, size_t n)
{
    if (s.order == 1)
        for (size_t i = 0; i < n / 2; i++)
            std::swap(v[i], v[n - 1 - i]);
    else if (s.order != 0)
        for (size_t i = n; i > 1; i--)
            std::swap(v[i - 1], v[nextRandom() % i]);
}

void push(Fiber* f)
{
    f->next = nullptr;
    if (s.head)
        s.tail->next = f;
    else
        s.head = f;
    s.tail = f;
}

// Lets threads run. Order 1 takes the last of them next, before all that could run already, so that a
// warp goes as far as it can while others have not begun.
void wake(Fiber** v, int n)
{
    if (s.order != 1) arrange(v, n);
    for (int i = 0; i < n; i++)
        if (s.order != 1) {
            push(v[i]);
        } else {
            v[i]->next = s.head;
            if (!s.head) s.tail = v[i];
            s.head = v[i];
        }
}

// Continues at next, or where run() was left if next is null.
void switchTo(Fiber* from, Fiber* next)
{
    if (from == next) return;
    s.running = next;
    self = next;
#if defined(HOST_ASAN)
    void** fake = !from ? &s.mainFakeStack : from->done ? nullptr : &from->fakeStack;
    if (next)
        __sanitizer_start_switch_fiber(fake, next->stack, stackSize);
    else
        __sanitizer_start_switch_fiber(fake, s.mainStack, s.mainStackSize);
#endif
#if defined(HOST_TSAN)
    __tsan_switch_to_fiber(next ? next->tsan : s.mainTsan, __tsan_switch_to_fiber_no_sync);
#endif
    fidlab_host_switch(from ? &from->stackPointer : &s.mainStackPointer,
                       next ? next->stackPointer : s.mainStackPointer);
#if defined(HOST_ASAN)
    __sanitizer_finish_switch_fiber(from ? from->fakeStack : s.mainFakeStack, nullptr, nullptr);
#endif
}

[[noreturn]] void deadlock()
{
    // One line for each thing that threads wait for, with the first thread of them.
    std::string text = "deadlock: no thread of the block can go on";
    std::vector<bool> told(s.threads);
    for (int i = 0; i < s.threads; i++) {
        const Fiber& f = s.fibers[i];
        if (f.done || told[i]) continue;
        int n = 0;
        for (int j = i; j < s.threads; j++) {
            const Fiber& g = s.fibers[j];
            if (!g.done && g.waits == f.waits && g.mask == f.mask && g.at.line == f.at.line &&
                g.awaited == f.awaited && !strcmp(g.at.file, f.at.file)) {
                told[j] = true;
                n++;
            }
        }
        char line[512];
        const bool warp = f.waits != Primitive::syncthreads &&
                          f.waits != Primitive::syncthreadsCount && f.waits != Primitive::barrier &&
                          f.waits != Primitive::named;
        snprintf(line, sizeof line, "\n    thread %u,%u,%u and %d more wait at %s, %s:%d",
                 f.index.x, f.index.y, f.index.z, n - 1, primitiveName(f.waits), f.at.file,
                 f.at.line);
        text += line;
        noteOfWait(f, line, sizeof line);
        text += line;
        if (warp) {
            snprintf(line, sizeof line, " for the lanes %08x of warp %d; %08x are there", f.mask,
                     f.warp, s.warps[f.warp].arrived);
            text += line;
        }
    }
    die("%s", text.c_str());
}

void runNext(Fiber* from)
{
    while (!s.head && s.live && landBox()) {
    }
    if (!s.head) {
        if (s.live) deadlock();
        switchTo(from, nullptr);
        return;
    }
    Fiber* f = s.head;
    s.head = f->next;
    switchTo(from, f);
}

// The moment when the last thread of a group arrives: everything that the others did before is
// seen by all of them afterwards. Called by the last one before any of them goes on.
void orderMemory(Fiber* const* group, int n)
{
#if defined(HOST_TSAN)
    for (int i = 0; i < n; i++)
        __tsan_acquire(&group[i]->arrives);
    for (int i = 0; i < n; i++)
        __tsan_release(&group[i]->wakes);
#else
    (void)group, (void)n;
#endif
}

// A barrier that all threads of the block have reached, or can no longer reach.
void openBarrier()
{
    const Fiber& first = *s.waiting[0];
    for (int i = 1; i < s.waitingCount; i++) {
        const Fiber& f = *s.waiting[i];
        if (f.at.line != first.at.line || strcmp(f.at.file, first.at.file))
            die("divergent barrier: thread %u,%u,%u is at %s, %s:%d, and thread %u,%u,%u at %s, "
                "%s:%d",
                f.index.x, f.index.y, f.index.z, primitiveName(f.waits), f.at.file, f.at.line,
                first.index.x, first.index.y, first.index.z, primitiveName(first.waits),
                first.at.file, first.at.line);
    }
    wake(s.waiting, s.waitingCount);
    s.lastCount = s.trueCount;
    s.waitingCount = s.trueCount = 0;
}

// Lets the lanes that meet f go on if the last of them is there.
void finishMeeting(Warp& w, const Fiber& f)
{
    const unsigned group = f.mask & w.live; // lanes that have ended take no part
    if ((w.arrived & group) != group) return;
    Fiber* all[32];
    int n = 0;
    for (unsigned m = group; m; m &= m - 1) {
        Fiber* g = all[n++] = w.first + __builtin_ctz(m);
        if (g->waits != f.waits || g->mask != f.mask)
            die("divergent warp: lane %d is at %s with mask %08x, %s:%d, and lane %d at %s with "
                "mask %08x, %s:%d",
                f.lane, primitiveName(f.waits), f.mask, f.at.file, f.at.line, g->lane,
                primitiveName(g->waits), g->mask, g->at.file, g->at.line);
    }
    w.arrived &= ~group;
    if (f.combine) f.combine(w.first, group);
    if (f.ordering) orderMemory(all, n);
    wake(all, n);
}

// A fiber's whole life.
void body()
{
#if defined(HOST_ASAN)
    __sanitizer_finish_switch_fiber(nullptr, s.mainStack ? nullptr : &s.mainStack,
                                    s.mainStackSize ? nullptr : &s.mainStackSize);
#endif
    Fiber* f = s.running;
#if defined(HOST_TSAN)
    __tsan_acquire(&s.starts);
#endif
    s.kernel->call(s.parameters);
#if defined(HOST_TSAN)
    __tsan_release(&s.ends);
#endif
    endProducts(f);
    f->done = true;
    s.live--;
    Warp& warp = s.warps[f->warp];
    warp.live &= ~(1u << f->lane);
    for (unsigned m = warp.arrived; m; m &= m - 1) {
        const Fiber& g = warp.first[__builtin_ctz(m)];
        if (g.mask >> f->lane & 1) { // it was waited for
            finishMeeting(warp, g);
            break;
        }
    }
    if (s.waitingCount) {
        const Fiber& w = *s.waiting[0];
        die("divergent barrier: this thread has ended while thread %u,%u,%u waits at %s, %s:%d",
            w.index.x, w.index.y, w.index.z, primitiveName(w.waits), w.at.file, w.at.line);
    }
    runNext(f);
    abort(); // a finished fiber is never continued
}

void prepare(Fiber& f, int i)
{
    f.index = {i % blockSize.x, i / blockSize.x % blockSize.y, i / (blockSize.x * blockSize.y)};
    f.lane = i & 31;
    f.warp = i >> 5;
    f.done = false;
    f.barriers = 0;
    f.waits = Primitive::none;
    f.copies.clear();
    f.groups.clear();
    f.landed = f.landedCopies = 0;
    f.wgmma->begin();
    f.awaited = nullptr;
    s.warps[f.warp].live |= 1u << f.lane;
    // The frame that fidlab_host_switch pops: six registers, then the address of body, which finds
    // the stack as a call would leave it (a return address of 0 on a multiple of 16, plus 8).
    void** sp = reinterpret_cast<void**>(f.stack + stackSize) - 8;
    for (int k = 0; k < 8; k++)
        sp[k] = nullptr;
    sp[6] = reinterpret_cast<void*>(body);
    f.stackPointer = sp;
#if defined(HOST_TSAN)
    // Two generations of ThreadSanitizer's fibers serve in turn, since making one takes most of a
    // millisecond: the threads of two blocks in a row are strangers to each other.
    static void* made[2][maxThreads];
    void*& t = made[s.block % 2][i];
    if (!t) t = __tsan_create_fiber(0);
    f.tsan = t;
    // The stack held another thread's variables, which concern nobody any more.
    forgetAccesses(f.stack, stackSize);
#endif
}

void fresh(unsigned char* p, size_t n)
{
    if (!n) return;
    fillBytes(p, n, 0xff);
#if defined(HOST_TSAN)
    forgetAccesses(p, n);
#endif
}

void runBlock()
{
    s.block++;
    s.threads = s.live = static_cast<int>(blockSize.x * blockSize.y * blockSize.z);
    s.head = nullptr;
    s.waitingCount = s.trueCount = 0;
    for (int i = 0; i < (s.threads + 31) / 32; i++)
        s.warps[i] = {0, 0, s.fibers + 32 * i};
    dynamicShared = takeShared(s.sharedSize);
    fresh(dynamicShared, s.sharedSize);
    fresh(s.kernel->shared, s.kernel->sharedEnd - s.kernel->shared);

    Fiber* all[maxThreads];
    for (int i = 0; i < s.threads; i++) {
        prepare(s.fibers[i], i);
        all[i] = &s.fibers[i];
    }
    beginAsync();
    wake(all, s.threads);
    runNext(nullptr);
    endAsync();
    giveShared(dynamicShared);
    dynamicShared = nullptr;
}

void makeFibers()
{
    if (s.fibers) return;
    s.fibers = new Fiber[maxThreads];
    Wgmma* const wgmma = new Wgmma[maxThreads];
    for (int i = 0; i < maxThreads; i++) {
        void* p = mmap(nullptr, guardSize + stackSize, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED || mprotect(p, guardSize, PROT_NONE)) die("no memory for the stacks");
        s.fibers[i].wgmma = wgmma + i;
        s.fibers[i].stack = static_cast<unsigned char*>(p) + guardSize;
    }
}

} // namespace

void die(const char* format, ...)
{
    char text[4096];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fflush(stdout);
    fprintf(stderr, "host device: %s", s.kernel ? s.kernel->name : "no kernel");
    if (self)
        fprintf(stderr, ", block %u,%u,%u, thread %u,%u,%u", blockIndex.x, blockIndex.y,
                blockIndex.z, self->index.x, self->index.y, self->index.z);
    fprintf(stderr, ": %s\n", text);
    abort();
}

Fiber* current() { return s.running; }
Fiber* fiberOf(int i) { return &s.fibers[i]; }
int orderOfThreads() { return s.order; }
uint32_t randomNumber() { return nextRandom(); }
size_t sharedSize() { return s.sharedSize; }

void resume(Fiber** v, int n) { wake(v, n); }

void park(Primitive which, Site at)
{
    Fiber* f = s.running;
    f->waits = which;
    f->at = at;
    f->mask = 0;
    runNext(f);
    f->waits = Primitive::none;
    f->awaited = nullptr;
}

bool inShared(const void* p, size_t n)
{
    const unsigned char* b = static_cast<const unsigned char*>(p);
    return (dynamicShared && b >= dynamicShared && b + n <= dynamicShared + s.sharedSize) ||
           (b >= s.kernel->shared && b + n <= s.kernel->sharedEnd);
}

int syncBlock(Primitive which, bool p, Site at)
{
    Fiber* f = s.running;
    f->waits = which;
    f->at = at;
    if (s.live < s.threads)
        die("divergent barrier: at %s, %s:%d, while %d threads of the block have ended",
            primitiveName(which), at.file, at.line, s.threads - s.live);
#if defined(HOST_TSAN)
    // Two addresses in turn: nobody arrives at the next barrier but one before all have woken here.
    char* order = &s.barriers[s.block % 2][f->barriers++ % 2];
    __tsan_release(order);
#endif
    s.waiting[s.waitingCount++] = f;
    s.trueCount += p;
    if (s.waitingCount == s.threads) openBarrier();
    runNext(f);
#if defined(HOST_TSAN)
    __tsan_acquire(order);
#endif
    f->waits = Primitive::none;
    return s.lastCount; // of this barrier: the next one opens only when this thread reaches it
}

void meet(Primitive which, unsigned mask, Site at, bool ordering,
          void (*combine)(Fiber* lanes, unsigned group))
{
    Fiber* f = s.running;
    f->waits = which;
    f->mask = mask;
    f->at = at;
    f->ordering = ordering;
    f->combine = combine;
    if (!(mask >> f->lane & 1))
        die("%s, %s:%d: the mask %08x does not hold the calling lane %d", primitiveName(which),
            at.file, at.line, mask, f->lane);
#if defined(HOST_TSAN)
    if (ordering) __tsan_release(&f->arrives);
#endif
    Warp& w = s.warps[f->warp];
    w.arrived |= 1u << f->lane;
    finishMeeting(w, *f);
    runNext(f);
#if defined(HOST_TSAN)
    if (ordering) __tsan_acquire(&f->wakes);
#endif
    f->waits = Primitive::none;
}

void yield()
{
    push(s.running);
    runNext(s.running);
}

void fence()
{
#if defined(HOST_TSAN)
    __tsan_acquire(&s.fence);
    __tsan_release(&s.fence);
#endif
}

void trap(Site at) { die("__trap, %s:%d", at.file, at.line); }

void launch(const Kernel* k, dim3 grid, dim3 block, size_t shared, void** parameters)
{
    std::lock_guard<std::mutex> lock(s.launching);
    const size_t threads = static_cast<size_t>(block.x) * block.y * block.z;
    s.kernel = k;
    if (threads < 1 || threads > maxThreads) die("%zu threads a block; 1 to 1024 go", threads);
    makeFibers();
    s.parameters = parameters;
    s.sharedSize = shared;
    const char* order = getenv("FIDLAB_HOST_ORDER");
    s.order = order ? atoi(order) : 0;
    s.random = static_cast<uint64_t>(s.order);
    gridSize = grid;
    blockSize = block;
#if defined(HOST_TSAN)
    s.mainTsan = __tsan_get_current_fiber();
    __tsan_release(&s.starts);
#endif
    s.mainStack = nullptr; // the caller's stack, which AddressSanitizer tells anew
    s.mainStackSize = 0;
    std::vector<size_t> blocks(static_cast<size_t>(grid.x) * grid.y * grid.z);
    for (size_t i = 0; i < blocks.size(); i++)
        blocks[i] = i;
    arrange(blocks.data(), blocks.size());
    for (size_t i : blocks) {
        blockIndex = {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                      static_cast<unsigned>(i / (static_cast<size_t>(grid.x) * grid.y))};
        runBlock();
    }
#if defined(HOST_TSAN)
    __tsan_acquire(&s.ends);
#endif
    s.kernel = nullptr;
    self = nullptr;
}

} // namespace host
