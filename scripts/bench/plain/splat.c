// splat - the peer of the Gaussian rasteriser's row: what one writes first.
//
// One thread, a loop over the Gaussians, each over the pixels of its 3-sigma box; forward (additive,
// sigma and rho, one image, channels last) and then the gradient of every parameter. Compiled with
// -O3 alone. Own code.
//
// usage: splat_plain FILE; FILE holds int32 n, h, w, c and float32 mean [n][2], cov [n][3], opacity [n],
// feature [n][c], v [h][w][c]. It prints a line when it is ready, and for each line that it
// reads does the work twenty times and prints the least seconds and the sum of what it computed as JSON.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int n, h, w, c;
static float *mean, *cov, *opacity, *feature, *v, *image, *dmean, *dcov, *dopacity, *dfeature;

static float* floats(size_t count)
{
    float* p = calloc(count, sizeof(float));
    if (!p) exit(3);
    return p;
}

static void box(int i, int* x0, int* x1, int* y0, int* y1)
{
    const float ex = 3 * cov[3 * i], ey = 3 * cov[3 * i + 1];
    *x0 = (int)ceilf(mean[2 * i] - ex - 0.5f);
    *x1 = (int)floorf(mean[2 * i] + ex - 0.5f) + 1;
    *y0 = (int)ceilf(mean[2 * i + 1] - ey - 0.5f);
    *y1 = (int)floorf(mean[2 * i + 1] + ey - 0.5f) + 1;
    if (*x0 < 0) *x0 = 0;
    if (*y0 < 0) *y0 = 0;
    if (*x1 > w) *x1 = w;
    if (*y1 > h) *y1 = h;
}

static void forward(void)
{
    memset(image, 0, sizeof(float) * (size_t)h * w * c);
    for (int i = 0; i < n; i++) {
        const float sx = cov[3 * i], sy = cov[3 * i + 1], rho = cov[3 * i + 2];
        const float k = 1 / (1 - rho * rho), a = k / (sx * sx), b = -rho * k / (sx * sy),
                    d = k / (sy * sy);
        int x0, x1, y0, y1;
        box(i, &x0, &x1, &y0, &y1);
        for (int y = y0; y < y1; y++) {
            for (int x = x0; x < x1; x++) {
                const float dx = x + 0.5f - mean[2 * i], dy = y + 0.5f - mean[2 * i + 1];
                const float g =
                    opacity[i] * expf(-(0.5f * (a * dx * dx + d * dy * dy) + b * dx * dy));
                float* out = image + ((size_t)y * w + x) * c;
                for (int m = 0; m < c; m++)
                    out[m] += g * feature[i * c + m];
            }
        }
    }
}

static void backward(void)
{
    for (int i = 0; i < n; i++) {
        const float sx = cov[3 * i], sy = cov[3 * i + 1], rho = cov[3 * i + 2];
        const float k = 1 / (1 - rho * rho), a = k / (sx * sx), b = -rho * k / (sx * sy),
                    d = k / (sy * sy);
        int x0, x1, y0, y1;
        box(i, &x0, &x1, &y0, &y1);
        float *df = dfeature + i * c, da = 0, db = 0, dd = 0, dmx = 0, dmy = 0, dop = 0;
        for (int m = 0; m < c; m++)
            df[m] = 0;
        for (int y = y0; y < y1; y++) {
            for (int x = x0; x < x1; x++) {
                const float dx = x + 0.5f - mean[2 * i], dy = y + 0.5f - mean[2 * i + 1];
                const float e = expf(-(0.5f * (a * dx * dx + d * dy * dy) + b * dx * dy)),
                            g = opacity[i] * e;
                const float* vp = v + ((size_t)y * w + x) * c;
                float hp = 0;
                for (int m = 0; m < c; m++) {
                    hp += vp[m] * feature[i * c + m];
                    df[m] += g * vp[m];
                }
                const float q = -g * hp;
                dop += e * hp;
                da += q * 0.5f * dx * dx;
                db += q * dx * dy;
                dd += q * 0.5f * dy * dy;
                dmx -= q * (a * dx + b * dy);
                dmy -= q * (b * dx + d * dy);
            }
        }
        const float ga = -(da * a * a + db * a * b + dd * b * b);
        const float gb = -(2 * da * a * b + db * (a * d + b * b) + 2 * dd * b * d);
        const float gc = -(da * b * b + db * b * d + dd * d * d);
        dmean[2 * i] = dmx;
        dmean[2 * i + 1] = dmy;
        dcov[3 * i] = 2 * sx * ga + rho * sy * gb;
        dcov[3 * i + 1] = 2 * sy * gc + rho * sx * gb;
        dcov[3 * i + 2] = sx * sy * gb;
        dopacity[i] = dop;
    }
}

static double magnitude(const float* x, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += fabs((double)x[i]);
    return sum / count;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int argc, char** argv)
{
    int size[4];
    FILE* f = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!f || fread(size, sizeof size, 1, f) != 1) return 2;
    n = size[0], h = size[1], w = size[2], c = size[3];
    const size_t pixels = (size_t)h * w * c;
    mean = floats(2 * n), cov = floats(3 * n), opacity = floats(n), feature = floats((size_t)n * c),
    v = floats(pixels);
    if (fread(mean, 4, 2 * n, f) != 2 * (size_t)n || fread(cov, 4, 3 * n, f) != 3 * (size_t)n ||
        fread(opacity, 4, n, f) != (size_t)n ||
        fread(feature, 4, (size_t)n * c, f) != (size_t)n * c || fread(v, 4, pixels, f) != pixels)
        return 2;
    fclose(f);
    image = floats(pixels), dmean = floats(2 * n), dcov = floats(3 * n), dopacity = floats(n),
    dfeature = floats((size_t)n * c);
    forward();
    backward();
    puts("{}");
    fflush(stdout);
    for (char line[64]; fgets(line, sizeof line, stdin);) {
        double seconds = 1e30;
        for (int i = 0; i < 20; i++) { // the best, as of our side
            const double start = now();
            forward();
            backward();
            const double took = now() - start;
            if (took < seconds) seconds = took;
        }
        const double value = magnitude(image, pixels) + magnitude(dmean, 2 * n) +
                             magnitude(dcov, 3 * n) + magnitude(dopacity, n) +
                             magnitude(dfeature, (size_t)n * c);
        printf("{\"seconds\": %.9g, \"value\": %.17g}\n", seconds, value);
        fflush(stdout);
    }
    return 0;
}
