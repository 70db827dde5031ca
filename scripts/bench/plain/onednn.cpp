// onednn - the peer of the rows of convolutions and products: oneDNN called alone.
//
// One primitive in float32 with the layouts that oneDNN chooses for itself, but for rows: operands are reordered before the clock starts and the
// result after it stops, and nothing is added or applied. Threads are OpenMP's (OMP_NUM_THREADS), over the whole batch. Own code; it
// only calls the library.
//
// usage: onednn KIND SIZES...
//   forward|data|weights N C H W OUT KERNEL STRIDE PAD   a convolution, or its gradient by the pictures or the kernels
//   product M N K                                        a product with weights, which are laid out before
//   rows M N K                                           the same of weights [N, K] as they lie
// It prints a line when it is ready, and for each line that it reads runs ten times and prints the least seconds and the mean
// magnitude of the last 64 values, of pictures in the order N, H, W, C, as JSON.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dnnl.hpp>
#include <iostream>
#include <string>
#include <unordered_map>
#include <vector>

using namespace dnnl;
using dims = memory::dims;
using tag = memory::format_tag;

static engine cpu(engine::kind::cpu, 0);
static stream lane(cpu);

static memory::desc plain(const dims& d, tag t) { return {d, memory::data_type::f32, t}; }

// filled has the values of spread in attention.go.
static memory filled(const memory::desc& md, uint32_t seed)
{
    memory m(md, cpu);
    float* p = static_cast<float*>(m.get_data_handle());
    for (size_t i = 0; i < md.get_size() / sizeof(float); i++)
        p[i] = float(((uint32_t(i) + (seed << 24)) * 2654435761u) >> 8) / 4194304 - 2;
    return m;
}

static memory in(const memory& from, const memory::desc& md)
{
    if (from.get_desc() == md) return from;
    memory to(md, cpu);
    reorder(from, to).execute(lane, const_cast<memory&>(from), to);
    lane.wait();
    return to;
}

struct job {
    primitive run;
    std::unordered_map<int, memory> args;
    int result;         // of args
    memory::desc order; // of the result, for the value
};

static primitive_attr none;

#if DNNL_VERSION_MAJOR >= 3
static auto forward_of(const memory::desc& s, const memory::desc& w, const memory::desc& d,
                       const dims& step, const dims& pad)
{
    return convolution_forward::primitive_desc(cpu, prop_kind::forward_training,
                                               algorithm::convolution_direct, s, w, d, step, pad,
                                               pad, none);
}
template <class P, class... Hint>
static auto backward_of(const memory::desc& a, const memory::desc& b, const memory::desc& c,
                        const dims& step, const dims& pad, const Hint&... hint)
{
    return typename P::primitive_desc(cpu, algorithm::convolution_direct, a, b, c, step, pad, pad,
                                      hint...);
}
static auto product_of(const memory::desc& a, const memory::desc& b, const memory::desc& c)
{
    return matmul::primitive_desc(cpu, a, b, c);
}
#else
static auto forward_of(const memory::desc& s, const memory::desc& w, const memory::desc& d,
                       const dims& step, const dims& pad)
{
    return convolution_forward::primitive_desc(
        {prop_kind::forward_training, algorithm::convolution_direct, s, w, d, step, pad, pad}, none,
        cpu);
}
template <class P, class... Hint>
static auto backward_of(const memory::desc& a, const memory::desc& b, const memory::desc& c,
                        const dims& step, const dims& pad, const Hint&... hint)
{
    return typename P::primitive_desc({algorithm::convolution_direct, a, b, c, step, pad, pad}, cpu,
                                      hint...);
}
static auto product_of(const memory::desc& a, const memory::desc& b, const memory::desc& c)
{
    return matmul::primitive_desc({a, b, c}, cpu);
}
#endif

static job convolution(const std::string& kind, const std::vector<int64_t>& v)
{
    const int64_t n = v[0], c = v[1], h = v[2], w = v[3], o = v[4], k = v[5], s = v[6], p = v[7];
    const dims ds = {n, c, h, w}, dw = {o, c, k, k},
               dd = {n, o, (h + 2 * p - k) / s + 1, (w + 2 * p - k) / s + 1}, step = {s, s},
               pad = {p, p};
    const auto any = [](const dims& d) { return plain(d, tag::any); };
    const memory x = filled(plain(ds, tag::nhwc), 1), kernel = filled(plain(dw, tag::oihw), 2),
                 dy = filled(plain(dd, tag::nhwc), 3);
    const auto f = forward_of(any(ds), any(dw), any(dd), step, pad);
    if (kind == "forward")
        return {convolution_forward(f),
                {{DNNL_ARG_SRC, in(x, f.src_desc())},
                 {DNNL_ARG_WEIGHTS, in(kernel, f.weights_desc())},
                 {DNNL_ARG_DST, memory(f.dst_desc(), cpu)}},
                DNNL_ARG_DST,
                plain(dd, tag::nhwc)};
    if (kind == "data") {
        const auto b =
            backward_of<convolution_backward_data>(any(ds), any(dw), any(dd), step, pad, f);
        return {convolution_backward_data(b),
                {{DNNL_ARG_DIFF_SRC, memory(b.diff_src_desc(), cpu)},
                 {DNNL_ARG_WEIGHTS, in(kernel, b.weights_desc())},
                 {DNNL_ARG_DIFF_DST, in(dy, b.diff_dst_desc())}},
                DNNL_ARG_DIFF_SRC,
                plain(ds, tag::nhwc)};
    }
    const auto b =
        backward_of<convolution_backward_weights>(any(ds), any(dw), any(dd), step, pad, f);
    return {convolution_backward_weights(b),
            {{DNNL_ARG_SRC, in(x, b.src_desc())},
             {DNNL_ARG_DIFF_WEIGHTS, memory(b.diff_weights_desc(), cpu)},
             {DNNL_ARG_DIFF_DST, in(dy, b.diff_dst_desc())}},
            DNNL_ARG_DIFF_WEIGHTS,
            plain(dw, tag::oihw)};
}

static job product(const std::vector<int64_t>& v, tag weights)
{
    const dims da = {v[0], v[2]}, db = {v[2], v[1]}, dc = {v[0], v[1]};
    const auto p = product_of(plain(da, tag::ab), plain(db, weights), plain(dc, tag::ab));
    return {matmul(p),
            {{DNNL_ARG_SRC, filled(plain(da, tag::ab), 1)},
             {DNNL_ARG_WEIGHTS, in(filled(plain(db, tag::ba), 2), p.weights_desc())},
             {DNNL_ARG_DST, memory(p.dst_desc(), cpu)}},
            DNNL_ARG_DST,
            plain(dc, tag::ab)};
}

int main(int argc, char** argv)
{
    const std::string kind = argc > 1 ? argv[1] : "";
    std::vector<int64_t> v;
    for (int i = 2; i < argc; i++)
        v.push_back(std::atoll(argv[i]));
    const bool laid = kind == "product", rows = kind == "rows";
    if (v.size() != (laid || rows ? 3u : 8u)) {
        std::fprintf(stderr, "usage: onednn KIND SIZES..., see the source\n");
        return 2;
    }
    job j = laid ? product(v, tag::any) : rows ? product(v, tag::ba) : convolution(kind, v);
    const auto work = [&] {
        j.run.execute(lane, j.args);
        lane.wait();
    };
    for (int i = 0; i < 3; i++)
        work();
    std::puts("{}");
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
        double seconds = 1e30;
        for (int i = 0; i < 10; i++) {
            const auto start = std::chrono::steady_clock::now();
            work();
            const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
            seconds = std::min(seconds, took.count());
        }
        const memory out = in(j.args.at(j.result), j.order);
        const float* p = static_cast<const float*>(out.get_data_handle());
        const size_t size = j.order.get_size() / sizeof(float);
        double value = 0;
        for (size_t i = size - 64; i < size; i++)
            value += std::fabs(p[i]) / 64;
        std::printf("{\"seconds\": %.9g, \"value\": %.17g}\n", seconds, value);
        std::fflush(stdout);
    }
    return 0;
}
