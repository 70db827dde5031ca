// Plays recorded launches again and compares what they leave in memory. kernels/hostrecord.h has
// the format. Linked with the kernels and the host build's scheduler by scripts/sanitize; this file
// and the scheduler are compiled without sanitizers, the kernels with them.
//
//	replay [-loose] FILE...
//
// For each file: "begin FILE", then "ok" or "differs: ...". With -loose, floats may differ by a
// part of the buffer's largest, as sums in another order do.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>
#include "device.h"
#include "host_map.h"

namespace {

struct Buffer {
    size_t size = 0;
    bool changed = false;
    std::string before, after;
    unsigned char* at = nullptr;
    char type = 'x'; // of the first pointer into it
};

struct Argument {
    uint64_t value = 0;
    int buffer = -1;
    size_t offset = 0;
    bool mapped = false; // map is the argument, of a tensor in the buffer
    TensorMap map;
};

struct Recording {
    std::string kernel;
    dim3 grid, block;
    size_t shared = 0;
    std::vector<Argument> arguments;
    std::vector<Buffer> buffers;
};

[[noreturn]] void fail(const std::string& what)
{
    fprintf(stderr, "replay: %s\n", what.c_str());
    exit(3);
}

void take(std::istream& in, std::string& s, size_t n)
{
    s.resize(n);
    if (n && !in.read(&s[0], static_cast<std::streamsize>(n))) fail("the recording is cut short");
}

Recording read(const char* path)
{
    std::ifstream in(path, std::ios::binary);
    Recording r;
    std::string line, types;
    if (!std::getline(in, line) || line != "fidlab launch 1")
        fail(std::string(path) + ": no recording");
    while (std::getline(in, line) && line != "data") {
        std::istringstream words(line);
        std::string word, how;
        words >> word;
        if (word == "kernel") words >> r.kernel;
        if (word == "grid") words >> r.grid.x >> r.grid.y >> r.grid.z;
        if (word == "block") words >> r.block.x >> r.block.y >> r.block.z;
        if (word == "shared") words >> r.shared;
        if (word == "parameter") {
            Argument a;
            char type;
            int size;
            words >> type >> size >> how;
            if (how == "value") words >> std::hex >> a.value;
            if (how == "buffer") words >> a.buffer >> a.offset;
            if (how == "map") {
                words >> a.buffer >> a.offset >> std::hex;
                for (auto& word : a.map.opaque)
                    words >> word;
                a.mapped = true;
                type = host::mapOf(a.map).type;
            }
            if (a.buffer == static_cast<int>(types.size())) types += type;
            r.arguments.push_back(a);
        }
        if (word == "buffer") {
            Buffer b;
            words >> b.size >> how;
            b.changed = how == "changed";
            r.buffers.push_back(b);
        }
    }
    for (size_t i = 0; i < r.buffers.size(); i++) {
        Buffer& b = r.buffers[i];
        if (i < types.size()) b.type = types[i];
        take(in, b.before, b.size);
        if (b.changed)
            take(in, b.after, b.size);
        else
            b.after = b.before;
    }
    return r;
}

template <class T> T element(const void* p, size_t i)
{
    T v;
    memcpy(&v, static_cast<const char*>(p) + i * sizeof v, sizeof v);
    return v;
}

size_t width(char type) { return type == 'd' ? 8 : type == 'h' || type == 'b' ? 2 : 4; }

double number(char type, const void* p, size_t i)
{
    switch (type) {
    case 'f': return element<float>(p, i);
    case 'd': return element<double>(p, i);
    case 'h': return toFloat(half{element<uint16_t>(p, i)});
    case 'b': return toFloat(bf16{element<uint16_t>(p, i)});
    }
    return element<int>(p, i);
}

// Whether the bytes are those wanted, or floats near them.
bool agree(const Buffer& b, bool loose)
{
    if (!memcmp(b.at, b.after.data(), b.size)) return true;
    const bool floating = b.type == 'f' || b.type == 'd' || b.type == 'h' || b.type == 'b';
    if (!loose || !floating) return false;
    const double part = b.type == 'd' ? 1e-12 : b.type == 'f' ? 1e-4 : 2e-2;
    const size_t n = b.size / width(b.type);
    double largest = 0;
    for (size_t i = 0; i < n; i++) {
        const double w = fabs(number(b.type, b.after.data(), i));
        if (w > largest && w < INFINITY) largest = w;
    }
    for (size_t i = 0; i < n; i++) {
        const double w = number(b.type, b.after.data(), i), g = number(b.type, b.at, i);
        if (!(fabs(g - w) <= part * largest) && !(w != w && g != g) && w != g) return false;
    }
    return true;
}

void tell(const Recording& r, int k)
{
    const Buffer& b = r.buffers[k];
    const size_t w = width(b.type);
    size_t i = 0;
    while (i + 1 < b.size / w && !memcmp(b.at + i * w, b.after.data() + i * w, w))
        i++;
    printf("differs: %s, buffer %d of %zu bytes, value %zu is %.9g, and the recording has %.9g\n",
           r.kernel.c_str(), k, b.size, i, number(b.type, b.at, i),
           number(b.type, b.after.data(), i));
}

bool play(const char* path, bool loose)
{
    Recording r = read(path);
    const host::Kernel* k = host::find(r.kernel.c_str());
    if (!k) fail("there is no kernel " + r.kernel);
    if (k->count != static_cast<int>(r.arguments.size()))
        fail(r.kernel + " has other parameters now");
    for (Buffer& b : r.buffers) {
        void* p = nullptr;
        if (posix_memalign(&p, 256, b.size)) fail("out of memory");
        b.at = static_cast<unsigned char*>(p);
        memcpy(b.at, b.before.data(), b.size);
    }
    std::vector<void*> parameters;
    for (Argument& a : r.arguments) {
        if (a.buffer >= 0) a.value = reinterpret_cast<uint64_t>(r.buffers[a.buffer].at + a.offset);
        if (a.mapped) {
            host::Map m = host::mapOf(a.map);
            m.base = a.value;
            a.map = host::encoded(m);
        }
        parameters.push_back(a.mapped ? static_cast<void*>(&a.map) : &a.value);
    }
    host::launch(k, r.grid, r.block, r.shared, parameters.data());
    bool right = true;
    for (size_t i = 0; i < r.buffers.size(); i++)
        if (right && !agree(r.buffers[i], loose)) {
            tell(r, static_cast<int>(i));
            right = false;
        }
    for (Buffer& b : r.buffers)
        free(b.at);
    return right;
}

} // namespace

int main(int count, char** words)
{
    bool loose = false, right = true;
    for (int i = 1; i < count; i++) {
        if (!strcmp(words[i], "-loose")) {
            loose = true;
            continue;
        }
        printf("begin %s\n", words[i]);
        fflush(stdout);
        if (play(words[i], loose))
            printf("ok\n");
        else
            right = false;
        fflush(stdout);
    }
    return right ? 0 : 1;
}
