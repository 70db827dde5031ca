//go:build native && cgo && hostdev

// The host device's streams, events and graphs. Work is done at the call; a stream in capture keeps
// it for a graph. Events carry a capture from stream to stream, as the driver's do.
#include "hostdriver.h"
#include <ctime>
#include <memory>

namespace hostdriver {

namespace {

Stream defaultStream; // of the null handle; it is never in capture
enum { disableTiming = 2 };

double now()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_nsec);
}

Event* eventOf(void* handle)
{
    Event* e = static_cast<Event*>(handle);
    return state.events.count(e) ? e : nullptr;
}

int cuStreamCreate(void** stream, unsigned flags)
{
    ENTER(true);
    if (flags > 1) return invalidValue;
    Stream* s = new Stream{flags, nullptr};
    state.streams.insert(s);
    *stream = s;
    return success;
}
int cuStreamCreateWithPriority(void** stream, unsigned flags, int)
{
    return cuStreamCreate(stream, flags);
}
int cuStreamDestroy(void* stream)
{
    ENTER(true);
    if (!state.streams.erase(static_cast<Stream*>(stream))) return invalidHandle;
    delete static_cast<Stream*>(stream);
    return success;
}
// What may not be asked of a stream in capture ends the capture.
int breakCapture(Stream* s)
{
    s->capture->broken = true;
    return captureUnsupported;
}
int cuStreamSynchronize(void* stream)
{
    ENTER(true);
    Stream* s = streamOf(stream);
    if (!s) return invalidHandle;
    return s->capture ? breakCapture(s) : success;
}
int cuStreamQuery(void* stream)
{
    ENTER(true);
    Stream* s = streamOf(stream);
    if (!s) return invalidHandle;
    return s->capture ? breakCapture(s) : success;
}
int cuStreamWaitEvent(void* stream, void* event, unsigned)
{
    ENTER(true);
    Stream* s = streamOf(stream);
    Event* e = eventOf(event);
    if (!s || !e) return invalidHandle;
    if (e->capture && e->capture != s->capture) {
        if (s->capture || s == &defaultStream)
            return captureUnsupported; // two captures would merge
        s->capture = e->capture;
    }
    return success;
}

int cuEventCreate(void** event, unsigned flags)
{
    ENTER(true);
    Event* e = new Event;
    e->flags = flags;
    state.events.insert(e);
    *event = e;
    return success;
}
int cuEventDestroy(void* event)
{
    ENTER(true);
    if (!state.events.erase(static_cast<Event*>(event))) return invalidHandle;
    delete static_cast<Event*>(event);
    return success;
}
int cuEventRecord(void* event, void* stream)
{
    ENTER(true);
    Stream* s = streamOf(stream);
    Event* e = eventOf(event);
    if (!s || !e) return invalidHandle;
    e->recorded = true;
    e->milliseconds = now();
    e->capture = s->capture;
    return success;
}
int cuEventSynchronize(void* event)
{
    ENTER(true);
    Event* e = eventOf(event);
    if (!e) return invalidHandle;
    return e->capture ? captureUnsupported : success;
}
int cuEventQuery(void* event) { return cuEventSynchronize(event); }
int cuEventElapsedTime(float* milliseconds, void* start, void* end)
{
    ENTER(true);
    Event *a = eventOf(start), *b = eventOf(end);
    if (!a || !b || !a->recorded || !b->recorded) return invalidHandle;
    if ((a->flags | b->flags) & disableTiming || a->capture || b->capture) return invalidHandle;
    *milliseconds = static_cast<float>(b->milliseconds - a->milliseconds);
    return success;
}

int cuStreamBeginCapture(void* stream, int mode)
{
    ENTER(true);
    Stream* s = streamOf(stream);
    if (!s) return invalidHandle;
    if (mode < 0 || mode > 2) return invalidValue;
    if (s == &defaultStream || s->capture) return captureUnsupported;
    s->capture = std::make_shared<Capture>();
    s->capture->origin = s;
    return success;
}
int cuStreamEndCapture(void* stream, void** graph)
{
    ENTER(true);
    Stream* s = streamOf(stream);
    if (!s) return invalidHandle;
    if (!s->capture) return invalidValue;
    if (s->capture->origin != s) return captureUnmatched;
    std::shared_ptr<Capture> c = s->capture;
    for (Stream* o : state.streams)
        if (o->capture == c) o->capture = nullptr;
    for (Event* e : state.events)
        if (e->capture == c) e->recorded = false, e->capture = nullptr;
    *graph = nullptr;
    if (c->broken) return captureInvalidated;
    Work* w = new Work(c->work);
    state.graphs.insert(w);
    *graph = w;
    return success;
}
int cuStreamIsCapturing(void* stream, int* capturing)
{
    ENTER(true);
    Stream* s = streamOf(stream);
    if (!s) return invalidHandle;
    *capturing = !s->capture ? 0 : s->capture->broken ? 2 : 1;
    return success;
}
int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long)
{
    ENTER(true);
    if (!state.graphs.count(static_cast<Work*>(graph))) return invalidValue;
    Work* w = new Work(*static_cast<Work*>(graph));
    state.executables.insert(w);
    *executable = w;
    return success;
}
int cuGraphDestroy(void* graph)
{
    ENTER(true);
    if (!state.graphs.erase(static_cast<Work*>(graph))) return invalidValue;
    delete static_cast<Work*>(graph);
    return success;
}
int cuGraphExecDestroy(void* executable)
{
    ENTER(true);
    if (!state.executables.erase(static_cast<Work*>(executable))) return invalidValue;
    delete static_cast<Work*>(executable);
    return success;
}
int cuGraphLaunch(void* executable, void* stream)
{
    ENTER(true);
    Stream* s = streamOf(stream);
    Work* w = static_cast<Work*>(executable);
    if (!s) return invalidHandle;
    if (!state.executables.count(w)) return invalidValue;
    for (auto& step : *w)
        if (int status = perform(stream, step)) return status;
    return success;
}

} // namespace

Stream* streamOf(void* handle)
{
    if (!handle) return &defaultStream;
    Stream* s = static_cast<Stream*>(handle);
    return state.streams.count(s) ? s : nullptr;
}

int perform(void* stream, std::function<int()> work)
{
    Stream* s = streamOf(stream);
    if (!s->capture) return work();
    if (s->capture->broken) return captureInvalidated;
    s->capture->work.push_back(std::move(work));
    return success;
}

#define E(f) {#f, reinterpret_cast<void*>(f)}
#define E2(f) {#f "_v2", reinterpret_cast<void*>(f)}
const Entry streamEntries[] = {
    E(cuStreamCreate),
    E(cuStreamCreateWithPriority),
    E2(cuStreamDestroy),
    E(cuStreamSynchronize),
    E(cuStreamQuery),
    E(cuStreamWaitEvent),
    E(cuEventCreate),
    E2(cuEventDestroy),
    E(cuEventRecord),
    E(cuEventSynchronize),
    E(cuEventQuery),
    E(cuEventElapsedTime),
    E2(cuEventElapsedTime),
    E2(cuStreamBeginCapture),
    E(cuStreamEndCapture),
    E(cuStreamIsCapturing),
    E(cuGraphInstantiateWithFlags),
    E(cuGraphDestroy),
    E(cuGraphExecDestroy),
    E(cuGraphLaunch),
    {nullptr, nullptr},
};

} // namespace hostdriver
