//go:build native && cgo && hostdev

// Writes recordings; hostrecord.h has the format.
#include "hostrecord.h"
#include "host_map.h"
#include "hostdriver.h"
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <unistd.h>

namespace hostdriver {

namespace {

size_t limit(const char* variable, size_t otherwise)
{
    const char* v = getenv(variable);
    return v && *v ? strtoull(v, nullptr, 10) : otherwise;
}

// The size of v to a factor of two; small numbers, which are often switches, exactly.
std::string sizeClass(uint64_t v)
{
    if (v <= 8) return std::to_string(v);
    return "e" + std::to_string(64 - __builtin_clzll(v));
}

std::string numberClass(const host::Parameter& p, uint64_t v)
{
    if (p.type != 'i') return v ? "." : "0";
    const int64_t s = p.size == 4 ? static_cast<int32_t>(v) : static_cast<int64_t>(v);
    return s < 0 ? "-" : sizeClass(static_cast<uint64_t>(s));
}

double microseconds()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * static_cast<double>(t.tv_sec) + 1e-3 * static_cast<double>(t.tv_nsec);
}

std::string line(const char* word, dim3 d)
{
    return std::string(word) + " " + std::to_string(d.x) + " " + std::to_string(d.y) + " " +
           std::to_string(d.z) + "\n";
}

} // namespace

Record::Record(const host::Kernel& k, dim3 grid, dim3 block, size_t shared,
               const std::vector<uint64_t>& arguments, const std::vector<TensorMap>& maps)
    : kernel(k)
{
    const char* folder = getenv("FIDLAB_HOST_RECORD");
    if (!folder || !*folder) return;
    const size_t threads = size_t(1) * grid.x * grid.y * grid.z * block.x * block.y * block.z;
    if (threads > limit("FIDLAB_HOST_RECORD_THREADS", 32768)) return;

    std::string kind, parameters;
    std::map<uintptr_t, size_t> index; // of the buffers, by address
    std::vector<const Buffer*> buffers;
    size_t bytes = 0;
    const auto place = [&](uintptr_t p) { // " INDEX OFFSET" of an address
        const Buffer* b = bufferOf(p, 0);
        const uintptr_t base = reinterpret_cast<uintptr_t>(b->block) + guardSize;
        if (!index.count(base)) {
            index[base] = buffers.size();
            buffers.push_back(b);
            bytes += b->size;
        }
        return " " + std::to_string(index[base]) + " " + std::to_string(p - base);
    };
    for (int i = 0; i < k.count; i++) {
        const host::Parameter& p = k.parameters[i];
        parameters += std::string("parameter ") + p.type + " " + std::to_string(p.size);
        if (!p.pointer && p.type == 'm') {
            const host::Map m = host::mapOf(maps[arguments[i]]);
            parameters += " map" + place(m.base);
            for (uint64_t word : maps[arguments[i]].opaque) {
                char hex[32];
                snprintf(hex, sizeof hex, " %llx", static_cast<unsigned long long>(word));
                parameters += hex;
            }
            parameters += "\n";
            kind += "map,";
            continue;
        }
        if (!p.pointer) {
            char hex[32];
            snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(arguments[i]));
            parameters += std::string(" value ") + hex + "\n";
            kind += numberClass(p, arguments[i]) + ",";
            continue;
        }
        kind += arguments[i] ? "p," : "null,";
        if (!arguments[i]) {
            parameters += " null\n";
            continue;
        }
        parameters += " buffer" + place(arguments[i]) + "\n";
    }
    if (bytes > limit("FIDLAB_HOST_RECORD_BYTES", 1 << 20)) return;
    kind += sizeClass(grid.x) + "x" + sizeClass(grid.y) + "x" + sizeClass(grid.z) + "," +
            sizeClass(size_t(1) * block.x * block.y * block.z) + "," + sizeClass(shared);
    static std::map<std::string, size_t> seen;
    static int written = 0;
    if (seen[std::string(k.name) + " " + kind]++ >= limit("FIDLAB_HOST_RECORD_COUNT", 1)) return;

    path = std::string(folder) + "/" + k.name + "-" + std::to_string(getpid()) + "-" +
           std::to_string(written++) + ".rec";
    head = std::string("fidlab launch 1\nkernel ") + k.name + "\nclass " + kind + "\n" +
           line("grid", grid) + line("block", block) + "shared " + std::to_string(shared) + "\n";
    for (const Buffer* b : buffers) {
        unsigned char* at = b->block + guardSize;
        saved.push_back({at, b->size, std::string(reinterpret_cast<char*>(at), b->size)});
    }
    tail = parameters;
    started = microseconds();
}

void Record::finish()
{
    if (path.empty()) return;
    const long took = static_cast<long>(microseconds() - started);
    head += "microseconds " + std::to_string(took) + "\n" + tail;
    std::string data;
    for (const Saved& s : saved) {
        const bool changed = memcmp(s.before.data(), s.at, s.size) != 0;
        head += "buffer " + std::to_string(s.size) + (changed ? " changed\n" : " same\n");
        data += s.before;
        if (changed) data.append(reinterpret_cast<char*>(s.at), s.size);
    }
    FILE* f = fopen((path + ".tmp").c_str(), "wb");
    if (!f ||
        fwrite((head + "data\n" + data).data(), 1, head.size() + 5 + data.size(), f) !=
            head.size() + 5 + data.size() ||
        fclose(f) || rename((path + ".tmp").c_str(), path.c_str())) {
        fprintf(stderr, "host device: FIDLAB_HOST_RECORD: %s cannot be written\n", path.c_str());
        abort();
    }
}

} // namespace hostdriver
