// A Gaussian's covariance from its three numbers, in double as ops/splatprep.go has it: once per
// Gaussian, so that its price does not show.
#pragma once

#include "splat2d.h"

namespace splat {

enum Form { cholesky, rs, sigmarho };
enum Fault {
    faultNone,
    faultMean,
    faultCov,
    faultOpacity,
    faultFeature,
    faultDepth,
    faultSigma,
    faultRho,
    faultSize
};

constexpr double sigmaLeast = 1e-3, rhoMost = 1 - 1e-4, detLeast = 1e-12;

struct Covariance {
    double a, b, c, det;
    bool fixed0, fixed1, fixed2; // held by a limit: the form's number; with cholesky a and c
};

__device__ __forceinline__ bool finite(float x) { return x - x == 0.f; }

// cos and sin of t without the slow path of sincos, which would need local memory.
__device__ __forceinline__ void turn(double t, double& sin, double& cos)
{
    const double half = t * 0.31830988618379067154; // of a turn: t / pi
    sin = sinpi(half);
    cos = cospi(half);
}

// The form's numbers v with a step of stepX, stepY between pixels; lowX, lowY are added to a and c.
__device__ __forceinline__ int covariance(Covariance& s, int form, double v0, double v1, double v2,
                                          double stepX, double stepY, double lowX, double lowY)
{
    const double minX = sigmaLeast * stepX, minY = sigmaLeast * stepY;
    s.fixed0 = s.fixed1 = s.fixed2 = false;
    if (form == cholesky) {
        s.a = v0 * v0;
        s.b = v0 * v1;
        s.c = v1 * v1 + v2 * v2;
        s.det = v0 * v2 * v0 * v2;
        if (s.a < minX * minX) {
            s.a = minX * minX;
            s.fixed0 = true;
        }
        if (s.c < minY * minY) {
            s.c = minY * minY;
            s.fixed1 = true;
        }
    } else {
        if (!(v0 > 0) || !(v1 > 0)) return faultSigma;
        const double least = minX < minY ? minX : minY;
        const double least0 = form == rs ? least : minX, least1 = form == rs ? least : minY;
        if (v0 < least0) {
            v0 = least0;
            s.fixed0 = true;
        }
        if (v1 < least1) {
            v1 = least1;
            s.fixed1 = true;
        }
        if (form == rs) {
            double sin, cos;
            turn(v2, sin, cos);
            s.a = v0 * v0 * cos * cos + v1 * v1 * sin * sin;
            s.c = v0 * v0 * sin * sin + v1 * v1 * cos * cos;
            s.b = (v0 - v1) * (v0 + v1) * sin * cos;
            s.det = v0 * v0 * v1 * v1;
        } else {
            if (!(fabs(v2) < 1)) return faultRho;
            if (fabs(v2) > rhoMost) {
                v2 = v2 < 0 ? -rhoMost : rhoMost;
                s.fixed2 = true;
            }
            s.a = v0 * v0;
            s.b = v2 * v0 * v1;
            s.c = v1 * v1;
            s.det = v0 * v0 * v1 * v1 * (1 - v2) * (1 + v2);
        }
    }
    s.det += s.a * lowY + s.c * lowX + lowX * lowY;
    s.a += lowX;
    s.c += lowY;
    const double floor = detLeast * s.a * s.c;
    if (s.det < floor) s.det = floor;
    const double most = FLT_MAX;
    return s.det <= most && s.a <= most && s.c <= most ? faultNone : faultSize;
}

} // namespace splat
